"""A run's curve from its own directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.bench import curve
from guidelines_core.runs.journal import STEP


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for folder in ("logs", "rows"):
        (tmp_path / folder).mkdir()
    steps = [
        {"step": step, "data": {STEP: step, "reward/mean": step / 10, "timing_s/step": 2.0}} for step in range(1, 7)
    ]
    lines = [{"step": 0, "data": {"start/total": 9.0}}, *steps]
    (tmp_path / "logs/attempt-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step, right in ((0, [1.0, 0.0, 0.0, 0.0]), (6, [1.0, 1.0, 1.0, 0.0])):
        rows = pd.DataFrame({"problem_id": list("abcd"), "acc": right, "step": step})
        rows.to_parquet(tmp_path / f"rows/validation_{step:06d}.parquet")
    return tmp_path


def test_the_json_holds_start_steps_and_the_paired_change(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve.json"
    assert curve.main([str(run), "--out", str(out), "--gpu", "H100"]) == 0
    found = json.loads(out.read_text())
    assert found["start"] == {"start/total": 9.0}
    assert [row["reward/mean"] for row in found["steps"]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert [row["accuracy"] for row in found["validation"]["accuracy"]] == [0.25, 0.75]
    change = found["validation"]["last_over_first"]
    assert (change["difference"]["value"], change["only_a"], change["only_b"]) == (0.5, 0, 2)


def test_a_window_is_a_mean_of_its_steps() -> None:
    steps = pd.DataFrame({"step": range(1, 6), "reward/mean": [1.0, 3.0, 5.0, 7.0, 9.0]})
    means = curve.windows(steps, 2)
    assert means["step"].tolist() == [2, 4, 5]
    assert np.allclose(means["reward/mean"], [2.0, 6.0, 9.0])


def test_a_folder_without_a_trained_step_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curve.main([str(tmp_path)]) == 2
    assert "no trained step" in capsys.readouterr().err
