"""Variance between guidelines and within one, against numpy and against what was put in."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.reward.signal import Signal, signal


def rows_of(right: np.ndarray) -> pd.DataFrame:
    """Return graded rows for verdicts of shape (groups, guidelines, solutions)."""
    groups, guidelines, solutions = right.shape
    table: pd.DataFrame = pd.DataFrame(
        [
            {"group": f"g{g}", "rollout": i, "sample": j, "acc": right[g, i, j], "score": right[g, i].mean()}
            for g in range(groups)
            for i in range(guidelines)
            for j in range(solutions)
        ]
    )
    return table


def by_hand(right: np.ndarray) -> tuple[float, float, float]:
    """Return between, within and share of balanced verdicts, in numpy alone."""
    solutions = right.shape[2]
    within = right.var(axis=2, ddof=1).mean()
    of_means = right.mean(axis=2).var(axis=1, ddof=1).mean()
    return of_means - within / solutions, within, (of_means - within / solutions) / of_means


def test_variances_are_numpys() -> None:
    chance = np.random.default_rng(0)
    right = (chance.random((6, 8, 4)) < chance.random((6, 8, 1))).astype(float)
    found = signal(rows_of(right))
    assert found is not None
    assert (found.between, found.within, found.share) == pytest.approx(by_hand(right))
    assert found.samples == 4


def test_what_was_put_in_comes_out_on_average() -> None:
    chance = np.random.default_rng(1)
    found = []
    for _ in range(150):
        quality = chance.beta(2, 2, size=(16, 8, 1))
        found.append(signal(rows_of((chance.random((16, 8, 2)) < quality).astype(float))))
    # A beta(2, 2) has variance 1/20; a solution's own variance is E[q(1 - q)] = 1/5.
    between, within = fmean(s.between for s in found if s), fmean(s.within for s in found if s)
    assert between == pytest.approx(0.05, rel=0.05)
    assert within == pytest.approx(0.2, rel=0.05)
    assert Signal(between, within, 2).samples_for(0.5) == pytest.approx(4, rel=0.1)


def test_guidelines_that_do_not_matter_explain_nothing_on_average() -> None:
    chance = np.random.default_rng(2)
    found = [signal(rows_of((chance.random((16, 8, 4)) < 0.6).astype(float))) for _ in range(80)]
    shares = [s.between for s in found if s]
    assert abs(np.mean(shares)) < 3 * np.std(shares) / np.sqrt(len(shares))
    assert min(shares) < 0, "an estimate cut at 0 would be biased"


def test_a_withheld_reward_counts_as_none() -> None:
    rows = rows_of(np.ones((2, 2, 2)))
    assert signal(rows) == Signal(between=0.0, within=0.0, samples=2)
    rows.loc[rows["rollout"] == 0, "score"] = 0.0
    assert signal(rows) == Signal(between=0.5, within=0.0, samples=2)
    assert signal(rows).share == 1.0  # type: ignore[union-attr]


def test_one_solution_or_one_guideline_tells_nothing() -> None:
    assert signal(rows_of(np.ones((3, 4, 1)))) is None
    assert signal(rows_of(np.ones((3, 1, 4)))) is None


def test_a_group_left_with_one_guideline_is_left_out() -> None:
    chance = np.random.default_rng(3)
    right = (chance.random((3, 4, 4)) < 0.5).astype(float)
    rows = rows_of(right)
    alone = rows[~((rows["group"] == "g2") & (rows["rollout"] > 0))]
    assert signal(alone) == signal(rows_of(right[:2]))


@given(
    st.integers(1, 4).flatmap(
        lambda groups: st.lists(st.integers(0, 3), min_size=groups * 6, max_size=groups * 6).map(
            lambda right: np.array(right).reshape(groups, 6)
        )
    )
)
def test_between_and_noise_make_up_the_variance_of_the_rewards(right: np.ndarray) -> None:
    verdicts = (np.arange(3) < right[..., None]).astype(float)
    found = signal(rows_of(verdicts))
    assert found is not None
    total = verdicts.mean(axis=2).var(axis=1, ddof=1).mean()
    assert found.between + found.within / 3 == pytest.approx(total)
    assert found.within >= 0
