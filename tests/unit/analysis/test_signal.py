"""What is said of signal and noise."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.stats.signal import in_words, signal_of
from guidelines_core.reward.signal import Signal


def history(between: float, within: float, samples: int) -> pd.DataFrame:
    one = Signal(between, within, samples).metrics()
    table: pd.DataFrame = pd.DataFrame([{**one, "reward/mean": 0.5}, {**one, "reward/mean": 0.6}, {"reward/mean": 0.7}])
    return table


def test_a_run_of_single_solutions_says_nothing() -> None:
    assert signal_of(pd.DataFrame({"reward/mean": [0.5]})) is None


@pytest.mark.parametrize(
    ("between", "within", "samples", "share", "advice"),
    [
        (0.02, 0.16, 2, "20%", "guidelines.solver.samples=8 would make"),
        (0.02, 0.16, 8, "50%", ""),
        (0.05, 0.10, 4, "67%", ""),
        (-0.01, 0.20, 4, "0%", "more samples do not help"),
    ],
)
def test_the_k_that_helps_is_said_where_noise_is_larger(
    between: float, within: float, samples: int, share: str, advice: str
) -> None:
    found = signal_of(history(between, within, samples))
    assert found is not None
    said = in_words(found)
    assert f"explains {share} of the reward's variance within a group at guidelines.solver.samples={samples}" in said
    assert ("noise is the larger" in said or "more samples" in said) == bool(advice)
    assert advice in said
