"""Layouts with rollout servers of their own, on logical slots of a CPU; `test_lost_rollouts.py` has the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidelines_core.runs.checkpoints import SEAL, last_checkpoint
from tests.chaos.loop import CLOCKED, differences
from tests.e2e.conftest import LONG_STEPS, SPLIT, Started
from tests.support.tiny_run import LOOPBACK, PROMPTS, STEPS, Run, start, store

pytestmark = pytest.mark.e2e

STALENESS = "training/off_policy/trajectory_staleness/max"


def test_ctrl_c_ends_everything_soon_and_says_how_to_go_on(split: Started) -> None:
    assert split.attempt.exit_code == 130, split.attempt.output
    assert split.attempt.seconds_to_end < 15
    assert "--resume" in split.attempt.output
    assert split.stored.info.status == "KILLED"
    assert split.attempt.listening
    assert split.attempt.listening <= LOOPBACK


def test_a_rollout_server_of_its_own_gives_the_same_run(split: Started, unbroken: Started) -> None:
    assert last_checkpoint(split.directory) >= 2
    assert_same(split, unbroken)


@pytest.mark.slow
def test_a_rollout_server_of_its_own_gives_the_same_run_resumed(split: Started, unbroken: Started) -> None:
    resumed = start(split.directory.parent, *SPLIT, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(split.steps()) == LONG_STEPS
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


def assert_same(split: Started, unbroken: Started) -> None:
    """Check that no rollout was stale and that every metric but clocks is the same in the steps that both have."""
    done = {step: metrics for step, metrics in split.steps().items() if step <= STEPS}
    assert [metrics[STALENESS] for metrics in done.values()] == [0] * len(done)
    compared = {name for name in done[1] if not CLOCKED.search(name) and not name.startswith("global_seqlen/")}
    assert {"actor/loss", "actor/grad_norm", "critic/advantages/max", "reward/mean", "solution/tokens"} <= compared
    steps = split.steps(), unbroken.steps()
    # A verdict that none of a step's solutions got has no metric.
    ours, theirs = (
        {name: {step: of_run[step][name] for step in done if name in of_run[step]} for name in compared}
        for of_run in steps
    )
    assert differences(ours, theirs) == []
