"""The layouts of a machine with four GPUs, on as many logical slots of a CPU."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from guidelines_core.runs.checkpoints import SEAL, last_checkpoint
from guidelines_core.runs.journal import STEP, Journal, attempts, history
from tests.chaos.loop import CLOCKED, differences
from tests.e2e.conftest import STEPS, Loop, start

pytestmark = pytest.mark.e2e

STALENESS = "training/off_policy/trajectory_staleness/max"


def steps(directory: Path) -> dict[int, dict[str, float]]:
    """Return each step's metrics."""
    entries = history(Journal(path).entries() for path in attempts(directory))
    return {entry.step: dict(entry.metrics) for entry in entries if STEP in entry.metrics}


def test_three_training_processes_roll_out_and_train_by_turns(tmp_path: Path) -> None:
    batch = ("data.train_batch_size=6", "actor_rollout_ref.actor.ppo_mini_batch_size=6", "guidelines.data.size=24")
    attempt = start(tmp_path, "layout=cpu-hybrid-3p1", *batch, "trainer.test_freq=-1")
    assert attempt.exit_code == 0, attempt.output
    done = steps(tmp_path / "run")
    assert list(done) == list(range(1, STEPS + 1))
    assert max(metrics["actor/grad_norm"] for metrics in done.values()) > 1e-3
    assert max(metrics["training/rollout_probs_diff_max"] for metrics in done.values()) < 1e-4
    shards = (tmp_path / "run" / f"global_step_{STEPS}").glob("actor/optim_world_size_3_rank_*.pt")
    assert len(list(shards)) == 3


def test_a_rollout_server_of_its_own_gives_the_same_run_also_resumed(tmp_path: Path, unbroken: Loop) -> None:
    strict = ("layout=cpu-split-1p2p1", "trainer.v1.separate_async.num_warmup_batches=0")
    directory = tmp_path / "run"
    stopped = start(tmp_path, *strict, stop_when=(directory / "global_step_2" / SEAL).exists, stop_by=signal.SIGTERM)
    assert stopped.listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    saved = last_checkpoint(directory)
    assert 2 <= saved < STEPS, stopped.output
    resumed = start(tmp_path, *strict, "--resume")
    assert resumed.exit_code == 0, resumed.output
    done = steps(directory)
    assert [metrics[STALENESS] for metrics in done.values()] == [0] * STEPS
    ours = {name: {step: metrics[name] for step, metrics in done.items()} for name in done[1]}
    compared = {name for name in ours if not CLOCKED.search(name) and not name.startswith("global_seqlen/")}
    assert {"actor/loss", "actor/grad_norm", "critic/advantages/max", "reward/mean", "solution/tokens"} <= compared
    theirs = {name: unbroken.metric(name) for name in compared}
    assert differences({name: ours[name] for name in compared}, theirs) == []
