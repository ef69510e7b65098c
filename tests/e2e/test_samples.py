"""Four solutions to each guideline, and both variances of their rewards, in the real loop."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.conftest import PROMPTS, ROLLOUTS, start

pytestmark = pytest.mark.e2e

SAMPLES, STEPS = 4, 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    attempt = start(
        folder,
        f"guidelines.solver.samples={SAMPLES}",
        "guidelines.grader.leak=zero",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=100",
        f"trainer.test_freq={STEPS}",
    )
    assert attempt.exit_code == 0, attempt.output
    return folder / "run"


def journal(directory: Path) -> list[dict[str, float]]:
    lines = (directory / "logs/attempt-1.jsonl").read_text().splitlines()
    return [entry["data"] for entry in map(json.loads, lines) if "training/global_step" in entry["data"]]


def rows(directory: Path, step: int) -> pd.DataFrame:
    return pd.read_parquet(directory / f"rows/train_{step:06d}.parquet")


def test_every_solution_and_verdict_is_kept(directory: Path) -> None:
    for step in range(1, STEPS + 1):
        found = rows(directory, step)
        assert len(found) == PROMPTS * ROLLOUTS * SAMPLES
        by_rollout = found.groupby(["group", "rollout"])
        assert (by_rollout["sample"].apply(list).map(tuple) == tuple(range(SAMPLES))).all()
        assert (by_rollout["guideline"].nunique() == 1).all()
        earned = found["acc"].where(found["guideline_leak"] == 0, 0.0)
        assert (earned.groupby([found["group"], found["rollout"]]).mean() == by_rollout["score"].first()).all()
    together = pd.concat([rows(directory, step) for step in range(1, STEPS + 1)])
    assert (together.groupby(["step", "group", "rollout"])["solution"].nunique() > 1).any(), "each has its own seed"
    assert set(together["score"]) - {0.0, 1.0}, "a reward may be a part"


def test_both_variances_are_numpys(directory: Path) -> None:
    for step, metrics in enumerate(journal(directory), start=1):
        found = rows(directory, step)
        earned = found["acc"].where(found["guideline_leak"] == 0, 0.0)
        right = earned.to_numpy().reshape(PROMPTS, ROLLOUTS, SAMPLES)
        within = right.var(axis=2, ddof=1).mean()
        of_means = right.mean(axis=2).var(axis=1, ddof=1).mean()
        between = of_means - within / SAMPLES
        assert metrics["signal/within_guideline"] == pytest.approx(within)
        assert metrics["signal/between_guidelines"] == pytest.approx(between)
        assert metrics["signal/guideline_share"] == pytest.approx(between / of_means)
        assert metrics["reward/mean"] == pytest.approx(right.mean())
        assert metrics["critic/score/mean"] == pytest.approx(right.mean(), abs=1e-6)
        assert metrics["solver/asked"] + metrics["solver/cache_hits"] > 0
        assert within > 0


def test_validation_writes_one_solution(directory: Path) -> None:
    found = pd.read_parquet(directory / f"rows/validation_{STEPS:06d}.parquet")
    assert list(found["sample"]) == [0] * 4
    assert set(found.columns) == set(rows(directory, 1).columns)
    assert found["solver_sampling"].str.startswith("temperature 0, seed ").all()
