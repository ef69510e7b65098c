"""What is counted of the rollouts without verdict."""

from __future__ import annotations

from collections import Counter

import pytest

from guidelines_core.verl_adapter.lost_rollouts import INCOMPLETE, LONE, LOST, loss_metrics, sizes


@pytest.mark.parametrize(
    ("found", "lost", "incomplete", "lone"),
    [
        ({"a": 4, "b": 4}, 0.0, 0.0, 0.0),
        ({"a": 4, "b": 3}, 1 / 8, 0.5, 0.0),
        ({"a": 4, "b": 1}, 3 / 8, 0.0, 0.5),
        ({"a": 4}, 0.5, 0.0, 0.5),
        ({"a": 2, "b": 1}, 5 / 8, 0.5, 0.5),
        ({}, 1.0, 0.0, 1.0),
    ],
)
def test_a_steps_losses(found: dict[str, int], lost: float, incomplete: float, lone: float) -> None:
    metrics = loss_metrics(Counter(found), groups=2, rollouts=4)
    assert metrics == {LOST: lost, INCOMPLETE: incomplete, LONE: lone}


def test_without_groups_none_is_alone() -> None:
    assert loss_metrics(Counter(a=1, b=1), groups=3, rollouts=1) == {LOST: pytest.approx(1 / 3), INCOMPLETE: 0, LONE: 0}


def test_padding_and_parts_of_a_rollout_are_not_counted() -> None:
    keys = ["7-a_b_0_0", "7-a_b_0_1", "7-a_b_1_0", "8-c_0_0", "padx_0_0"]
    tags = [{}, {}, {}, {"is_padding": False}, {"is_padding": True}]
    assert sizes(keys, tags) == {"7-a_b": 2, "8-c": 1}
