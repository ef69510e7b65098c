"""The layouts of a machine with four GPUs, on as many logical slots of a CPU."""

from __future__ import annotations

import pytest

from guidelines_core.runs.checkpoints import last_checkpoint
from tests.chaos.loop import CLOCKED, differences
from tests.e2e.conftest import LOSING_STEPS, SPLIT, Started
from tests.support.tiny_run import LOOPBACK, STEPS, start

pytestmark = pytest.mark.e2e

STALENESS = "training/off_policy/trajectory_staleness/max"


def test_three_training_processes_roll_out_and_train_by_turns(losing: Started) -> None:
    steps = losing.steps()
    assert list(steps) == list(range(1, LOSING_STEPS))
    assert steps[1]["actor/grad_norm"] > 1e-3
    assert max(metrics["training/rollout_probs_diff_max"] for metrics in steps.values()) < 1e-4
    shards = (losing.directory / f"global_step_{LOSING_STEPS - 1}").glob("actor/optim_world_size_3_rank_*.pt")
    assert len(list(shards)) == 3


def test_ctrl_c_ends_everything_soon_and_says_how_to_go_on(split: Started) -> None:
    assert split.attempt.exit_code == 130, split.attempt.output
    assert split.attempt.seconds_to_end < 15
    assert "--resume" in split.attempt.output
    assert split.stored.info.status == "KILLED"
    assert split.attempt.listening
    assert split.attempt.listening <= LOOPBACK


def test_a_rollout_server_of_its_own_gives_the_same_run(split: Started, unbroken: Started) -> None:
    assert 2 <= last_checkpoint(split.directory) < STEPS
    assert_same(split, unbroken)


@pytest.mark.slow
def test_a_rollout_server_of_its_own_gives_the_same_run_resumed(split: Started, unbroken: Started) -> None:
    resumed = start(split.directory.parent, *SPLIT, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(split.steps()) == STEPS
    assert_same(split, unbroken)


def assert_same(split: Started, unbroken: Started) -> None:
    """Check that no rollout was stale and that every metric but clocks is the same."""
    done = split.steps()
    assert [metrics[STALENESS] for metrics in done.values()] == [0] * len(done)
    compared = {name for name in done[1] if not CLOCKED.search(name) and not name.startswith("global_seqlen/")}
    assert {"actor/loss", "actor/grad_norm", "critic/advantages/max", "reward/mean", "solution/tokens"} <= compared
    ours, theirs = (
        {name: {step: run.steps()[step][name] for step in done} for name in compared} for run in (split, unbroken)
    )
    assert differences(ours, theirs) == []
