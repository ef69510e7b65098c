"""The real loop when some rollouts get no verdict: what it learns from, counts, shows, and when it stops."""

from __future__ import annotations

import pytest

from guidelines_core.runs.checkpoints import last_checkpoint
from tests.e2e.conftest import LOSING_PROMPTS, Started
from tests.support.tiny_run import ROLLOUTS

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
