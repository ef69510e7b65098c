"""When a step's old log-probs are the rollout engine's own."""

from __future__ import annotations

import pytest

from guidelines_core.config.compose import compose
from guidelines_core.config.layout import old_log_probs_from_rollout
from guidelines_core.verl_adapter.old_log_probs import from_rollout


@pytest.mark.parametrize(
    ("step", "difference", "taken"),
    [
        (1, 0.001, False),
        (2, 0.001, True),
        (10, 0.001, True),
        (11, 0.001, False),
        (12, 0.01, False),
        (12, None, False),
        (12, float("nan"), False),
    ],
)
def test_the_first_of_every_ten_steps_measures_and_the_others_follow(
    step: int, difference: float | None, taken: bool
) -> None:
    assert from_rollout(step, difference, agreement=0.01, check_every=10) is taken


@pytest.mark.parametrize(("layout", "taken"), [("hybrid-3p1", True), ("split-1p2p1", False)])
def test_rollouts_of_older_weights_are_not_asked(layout: str, taken: bool) -> None:
    config = compose("numinamath30k-3b-300steps-mathverify-fast", [f"layout={layout}"], environ={})
    assert old_log_probs_from_rollout(config) is taken
