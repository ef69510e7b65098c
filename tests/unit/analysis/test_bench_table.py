from __future__ import annotations

import json
import sys

import pytest

from analysis.bench import table as bench_table
from guidelines_core.paths import ROOT


@pytest.mark.parametrize(
    ("file", "figures"),
    [
        ("update-h200.json", ["57.58", "packed-liger-adam", "7.50", "7.68", "three calls"]),
        ("solver-h200.json", ["219.49 (extrapolated)", "4.43", "49.5", "16,250"]),
    ],
)
def test_a_committed_benchmark_is_printed_without_its_gpu(
    file: str, figures: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_table.py", str(ROOT / "analysis/results" / file)])
    assert bench_table.main() == 0
    printed = capsys.readouterr().out
    assert [figure for figure in figures if figure not in printed] == []


def test_a_steps_table_is_told_from_an_updates() -> None:
    arm = {"name": "a", "s_per_step": 2.0, "phases": {"step": 2.0}, "launch_to_first_step_s": 9.0}
    about = {"gpu": "G", "gpu_count": 1}
    failed = {"name": "a", "failed": "exit code 1", "peak_flops": 1e12}
    assert bench_table.table({**about, "arms": [arm]}).columns[0].header == "seconds"
    measured = json.loads((ROOT / "analysis/results/update-h200.json").read_text())["arms"][0]
    assert bench_table.table({**about, "arms": [failed, measured]}).columns[1].header == "workload"
