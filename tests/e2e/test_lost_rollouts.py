"""The real loop when some rollouts get no verdict: what it learns from, counts, shows, and when it stops.

Its runs have the layouts of four GPUs that train by turns, and of two GPUs that share with solvers. The latter with
rollouts that get no verdict is in `test_two_nodes.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from guidelines_core.runs.checkpoints import last_checkpoint
from tests.e2e.conftest import LOSING_PROMPTS, LOSING_STEPS, Started
from tests.support.recorded_config import assert_recorded
from tests.support.tiny_run import ONCE, ROLLOUTS, Run, start, store

pytestmark = pytest.mark.e2e

ALL = LOSING_PROMPTS * ROLLOUTS


def test_a_groups_only_survivor_teaches_nothing(losing: Started) -> None:
    rows = losing.step_rows(2)
    assert sorted(rows.groupby("group").size()) == [1, *[ROLLOUTS] * (LOSING_PROMPTS - 1)]
    assert rows["score"].tolist() == [1.0] * (ALL - 3)
    assert rows["advantage"].abs().max() == 0


def test_losses_are_counted(losing: Started) -> None:
    first, second = losing.steps()[1], losing.steps()[2]
    assert first["reward/lost_rollouts"] == 1 / ROLLOUTS
    assert first["reward/incomplete_groups"] == 1.0
    assert first["reward/lone_groups"] == 0.0
    assert second["reward/lost_rollouts"] == pytest.approx(3 / ALL)
    assert second["reward/lone_groups"] == pytest.approx(1 / LOSING_PROMPTS)
    assert second["reward/ungraded_reward_error"] == 3


def test_losing_too_many_ends_the_run_by_name_with_its_last_step_saved(losing: Started) -> None:
    assert losing.attempt.exit_code == 1, losing.attempt.output
    assert losing.stored.info.status == "FAILED"
    said = "TooManyLostError: step 3: 18 of 24 rollouts got no verdict (reward/ungraded_reward_error 18)"
    assert said in losing.stored.data.tags["guidelines.end"]
    assert last_checkpoint(losing.directory) == 2


def test_the_closing_table_says_it(losing: Started) -> None:
    assert "18.8% of all, 25.0% of a step at most" in losing.attempt.output


def test_three_training_processes_roll_out_and_train_by_turns(losing: Started) -> None:
    steps = losing.steps()
    assert list(steps) == list(range(1, LOSING_STEPS))
    assert steps[1]["actor/grad_norm"] > 1e-3
    assert max(metrics["training/rollout_probs_diff_max"] for metrics in steps.values()) < 1e-4
    shards = (losing.directory / f"global_step_{LOSING_STEPS - 1}").glob("actor/optim_world_size_3_rank_*.pt")
    assert len(list(shards)) == 3


@pytest.mark.slow
def test_two_training_processes_take_turns_with_a_solver_on_each(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", store(tmp_path))
    words = ("trainer.total_training_steps=2", "trainer.save_freq=-1", "trainer.test_freq=-1")
    attempt = start(tmp_path, "layout=cpu-hybrid-2-shared", *words, driver=ONCE)
    assert attempt.exit_code == 0, attempt.output
    done = run.steps()
    assert list(done) == [1, 2]
    assert done[1]["actor/grad_norm"] > 1e-3
    assert max(metrics["training/rollout_probs_diff_max"] for metrics in done.values()) < 1e-4


def test_verl_gets_what_is_recorded_of_a_second_run_without_a_rollout_seed(losing: Started, tmp_path: Path) -> None:
    assert_recorded(losing, "quickstart-2", tmp_path)
