"""A trial in a trainer that has measured others, against one in a trainer of its own: the same losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidelines_core.runs.journal import STEP, Journal
from sweeps.validation.warm_check import compare
from tests.support.tiny_run import problems, store

pytestmark = pytest.mark.slow

COMPARED = ("actor/loss", "actor/kl_loss", "actor/grad_norm", "critic/advantages/max", "reward/mean", "solution/tokens")


def steps(folder: Path, trial: str) -> list[dict[str, float]]:
    """Return the compared metrics of a trial's steps."""
    (file,) = folder.rglob(f"{trial}.jsonl")
    found = [entry.metrics for entry in Journal(file).entries() if STEP in entry.metrics]
    return [{name: metrics[name] for name in COMPARED} for metrics in found]


def test_a_warm_trial_has_the_losses_of_a_cold_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store(tmp_path))
    overrides = {
        "guidelines.data.source": problems(tmp_path / "odd.jsonl"),
        "guidelines.data.size": 36,
        "guidelines.data.val_size": 4,
        # In bfloat16 an answer depends on what else was in its batch.
        "reward.reward_model.rollout.dtype": "float32",
        "actor_rollout_ref.actor.optim.lr": 0.01,
        "trainer.default_local_dir": tmp_path / "run",
    }
    compare("tiny", [f"{key}={value}" for key, value in overrides.items()], times=1)
    warm, cold, between = (steps(tmp_path, trial) for trial in ("warm-0", "cold-0", "between-0"))
    assert len(warm) == len(cold) > 2
    for ours, theirs in zip(warm, cold, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert max(metrics["actor/grad_norm"] for metrics in cold) > 1e-3
    assert warm != between[: len(warm)], "the trial before was another one"
