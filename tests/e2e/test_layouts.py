"""The layouts of a machine with two or four GPUs, on as many logical slots of a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidelines_core.runs.checkpoints import SEAL, last_checkpoint
from tests.chaos.loop import CLOCKED, differences
from tests.e2e.conftest import LOSING_PROMPTS, LOSING_STEPS, LOSSES, SPLIT, Started
from tests.support.tiny_run import LOOPBACK, PROMPTS, ROLLOUTS, STEPS, Run, start, store

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


@pytest.mark.slow
def test_a_rollout_beside_the_solver_trains_a_step_behind_and_resumes_what_was_under_way(tmp_path: Path) -> None:
    run, words = Run(tmp_path / "run", store(tmp_path)), ("layout=cpu-split-1p1-shared",)
    stopped = start(tmp_path, *words, stop_when=(run.directory / "global_step_2" / SEAL).exists)
    assert stopped.exit_code == 130, stopped.output
    resumed = start(tmp_path, *words, "--resume")
    assert resumed.exit_code == 0, resumed.output
    done = run.steps()
    assert list(done) == list(range(1, STEPS + 1))
    # The first step's rollouts and the second's are both of the first weights.
    assert [done[step][STALENESS] for step in (1, 2)] == [0, 1]
    assert all(metrics[STALENESS] <= 1 for metrics in done.values())
    assert max(metrics["actor/grad_norm"] for metrics in done.values()) > 1e-3
    problems = [set(run.step_rows(step)["problem_id"]) for step in done]
    assert [len(of_step) for of_step in problems] == [PROMPTS] * STEPS
    assert len(set.union(*problems)) == PROMPTS * STEPS


def test_two_training_processes_take_turns_with_a_solver_on_each_and_drop_what_has_no_verdict(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", store(tmp_path))
    losses = (*LOSSES, "trainer.total_training_steps=2", f"guidelines.data.size={2 * LOSING_PROMPTS}")
    attempt = start(tmp_path, "layout=cpu-hybrid-2-shared", *losses, "trainer.test_freq=2")
    assert attempt.exit_code == 0, attempt.output
    done = run.steps()
    assert list(done) == [1, 2]
    assert done[1]["actor/grad_norm"] > 1e-3
    assert max(metrics["training/rollout_probs_diff_max"] for metrics in done.values()) < 1e-4
    assert len(list((run.directory / "global_step_2").glob("actor/optim_world_size_2_rank_*.pt"))) == 2
    assert [metrics["reward/lost_rollouts"] for metrics in done.values()] == [1 / ROLLOUTS, pytest.approx(3 / 24)]
    assert run.metric("validation/problems")[2] == 3
    assert len(run.step_rows(1)) == LOSING_PROMPTS * (ROLLOUTS - 1)
    assert sorted(run.step_rows(2).groupby("group").size()) == [1, *[ROLLOUTS] * (LOSING_PROMPTS - 1)]


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
