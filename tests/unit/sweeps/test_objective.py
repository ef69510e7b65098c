"""A trial's figures, from steps whose figures are known."""

from __future__ import annotations

import pytest

from guidelines_core.verl_adapter.trials import WALL
from sweeps.objective import measure, rate, slower_than_median


def step(seconds: float, graded: float, **other: float) -> dict[str, float]:
    return {
        WALL: seconds,
        "reward/graded": graded,
        "reward/mixed_groups": 0.5,
        "reward/math_verify_accuracy": 0.25,
        "prompt_length/mean": 100.0,
        "guideline/tokens": 20.0,
        "solution/tokens": 30.0,
        "guideline/truncated": 0.0,
        "solution/truncated": 0.1,
        **other,
    }


STEPS = [step(100, 1), step(2, 8), step(4, 8), step(2, 4, **{"reward/ungraded": 4.0, "solution/truncated": 0.5})]


def test_the_objective_is_all_rollouts_over_all_seconds_after_the_warm_up() -> None:
    found = measure(STEPS, 1, "graded", "math_verify")
    assert found.value == found.metrics["sweep/graded_rollouts_per_s"] == pytest.approx(20 / 8)
    assert found.metrics["sweep/rate_median"] == 2.0
    assert found.metrics["sweep/rate_spread"] == pytest.approx(1.0)
    assert found.metrics["sweep/s_per_step"] == 2
    assert found.metrics["sweep/tokens_per_s"] == pytest.approx(150 * 20 / 8)
    assert found.metrics["sweep/ungraded"] == 4


def test_only_groups_that_teach_count_as_effective() -> None:
    assert measure(STEPS, 1, "effective", "math_verify").value == pytest.approx(10 / 8)
    assert rate(STEPS[1], "effective") == 2
    assert rate(STEPS[1], "graded") == 4


def test_shares_are_of_rollouts_and_the_larger_one_is_limited() -> None:
    found = measure(STEPS, 1, "graded", "math_verify")
    assert found.metrics["sweep/solutions_truncated"] == pytest.approx((8 * 0.1 + 8 * 0.1 + 4 * 0.5) / 20)
    assert found.truncated == found.metrics["sweep/solutions_truncated"]


def test_no_step_after_the_warm_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 steps leave none"):
        measure(STEPS[:1], 1, "graded", "math_verify")


@pytest.mark.parametrize(
    ("value", "others", "verdict"),
    [(1.0, [2, 3, 4], False), (1.0, [0.5, 2, 3, 4], True), (2.5, [2, 3, 2, 3], False), (2.4, [2, 3, 2, 3], True)],
)
def test_slower_than_the_median_of_four_or_more(value: float, others: list[float], verdict: bool) -> None:
    assert slower_than_median(value, others) is verdict
