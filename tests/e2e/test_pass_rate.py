"""Pass rates by the real engine, a training set chosen by them, and what the guidelines add to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.lifts.arms import engine_of
from guidelines_core.config.compose import compose
from guidelines_core.models.bundled import ensure_model
from guidelines_core.paths import MODELS, ROOT
from tests.e2e.conftest import problems, start

pytestmark = pytest.mark.e2e

TINY = MODELS / "tiny-random"
STEPS = 2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    ensure_model(TINY)
    config = compose("tiny", environ={})
    out = folder / "measured.jsonl"
    words = ["--source", str(problems(folder / "odd.jsonl")), "--model", str(TINY), "--out", str(out)]
    words += ["--samples", "8", "--temperature", "1.0", "--max-tokens", "16"]
    words += ["--engine", json.dumps(engine_of(config, config.reward.reward_model.rollout))]
    done = subprocess.run(
        [sys.executable, "-m", "guidelines_core.data.pass_rate", *words],
        env={**os.environ, **config.guidelines.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def directory(source: Path) -> Path:
    attempt = start(
        source.parent,
        f"guidelines.data.source={source}",
        "guidelines.data.pass_rate=[0.2,0.8]",
        "guidelines.data.size=40",
        "guidelines.solver.samples=2",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=100",
        f"trainer.test_freq={STEPS}",
    )
    assert attempt.exit_code == 0, attempt.output
    return source.parent / "run"


def test_every_problem_has_been_answered_with_different_solutions(source: Path) -> None:
    rows = pd.read_json(source, lines=True)
    assert len(rows) == 40
    assert rows["pass_rate"].isin([0, 0.25, 0.5, 0.75, 1]).all()
    assert 0 < rows["pass_rate"].mean() < 1
    assert (rows["pass_rate"] != rows["baseline"]).any()
    assert json.loads(source.with_name("measured.jsonl.json").read_text())["accuracy"] == rows["pass_rate"].mean()


def test_a_run_trains_on_the_chosen_problems_and_logs_what_guidelines_add(directory: Path, source: Path) -> None:
    known = pd.read_json(source, lines=True).set_index("problem")
    lines = [json.loads(line)["data"] for line in (directory / "logs/attempt-1.jsonl").read_text().splitlines()]
    steps = [data for data in lines if "training/global_step" in data]
    assert len(steps) == STEPS
    for step, metrics in enumerate(steps, start=1):
        rows = pd.read_parquet(directory / f"rows/train_{step:06d}.parquet")
        assert known.loc[rows["question"], "pass_rate"].between(0.2, 0.8).all()
        assert (known.loc[rows["question"], "baseline"].to_numpy() == rows["baseline"].to_numpy()).all()
        assert metrics["reward/uplift"] == pytest.approx(rows["acc"].mean() - rows["baseline"].mean())
    validated = pd.read_parquet(directory / f"rows/validation_{STEPS:06d}.parquet")
    uplift = validated["acc"].mean() - validated["baseline"].mean()
    assert [data["validation/uplift"] for data in lines if "validation/uplift" in data] == [pytest.approx(uplift)]
