from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats as reference

from analysis.stats.intervals import compare_paired, holm, mean_interval, share_interval, smooth


@pytest.mark.parametrize("values", [np.repeat([0.0, 1.0], [130, 170]), np.random.default_rng(1).normal(3, 2, 80)])
def test_the_bootstrap_interval_is_scipys(values: npt.NDArray[np.float64]) -> None:
    found = mean_interval(values)
    wanted = reference.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=0)
    assert found.value == pytest.approx(values.mean())
    assert found.n == len(values)
    # Two bootstraps of 10,000 resamples differ by chance, far less than the interval is wide.
    assert found.low == pytest.approx(wanted.confidence_interval.low, abs=0.06 * values.std() / 10)
    assert found.high == pytest.approx(wanted.confidence_interval.high, abs=0.06 * values.std() / 10)


def test_an_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    covered = [
        found.low <= 0.4 <= found.high
        for found in (mean_interval(chance.binomial(1, 0.4, 200).astype(np.float64)) for _ in range(400))
    ]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_missing_verdicts_do_not_count_and_no_values_have_no_mean() -> None:
    assert mean_interval(np.array([1.0, np.nan, 0.0])).n == 2
    nothing = mean_interval(np.array([]))
    assert nothing.n == 0
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_mcnemar_by_hand() -> None:
    # Ten problems, of which b alone gets 6 and a alone 1: p = 2 * (C(7,0) + C(7,1)) / 2^7 = 16 / 128.
    a = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1, 0], dtype=float)
    b = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 0], dtype=float)
    found = compare_paired(a, b)
    assert (found.only_a, found.only_b) == (1, 6)
    assert found.p_value == pytest.approx(16 / 128)
    assert found.difference.value == pytest.approx(0.5)


def test_the_paired_interval_is_scipys_and_narrower_than_an_unpaired_one() -> None:
    chance = np.random.default_rng(3)
    a = chance.binomial(1, 0.5, 300).astype(float)
    b = np.where(chance.random(300) < 0.1, 1 - a, a)
    found = compare_paired(a, b).difference
    wanted = reference.bootstrap(
        (a, b), lambda x, y: np.mean(y - x), paired=True, vectorized=False, n_resamples=5000, method="percentile", rng=0
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.008)
    alone = mean_interval(a)
    assert found.high - found.low < alone.high - alone.low


def test_equal_runs_and_problems_with_several_answers() -> None:
    same = np.array([1.0, 0.0, 1.0])
    assert compare_paired(same, same).p_value == 1.0
    several = compare_paired(np.array([0.5, 0.25]), np.array([0.75, 0.25]))
    assert several.p_value is None
    assert several.difference.value == pytest.approx(0.125)
    assert compare_paired(np.array([]), np.array([])).difference.n == 0


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1 is 0.03, 0.04, 0.04; none falls below an earlier one.
    assert holm([0.02, None, 0.01, 0.04]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smoothed_line_is_the_windows_mean_with_students_interval() -> None:
    values = pd.Series(np.random.default_rng(0).normal(size=90), index=range(1, 91))
    line = smooth(values)
    window = values.loc[38:44]  # a fifteenth of 90 is 6; centred windows are odd
    assert line.loc[41, "mean"] == pytest.approx(window.mean())
    low, high = reference.t.interval(0.95, len(window) - 1, window.mean(), reference.sem(window))
    assert (line.loc[41, "low"], line.loc[41, "high"]) == pytest.approx((low, high))


def test_a_short_or_empty_series_is_left_as_it_is() -> None:
    short = smooth(pd.Series([2.0, 5.0], index=[5, 6]))
    assert short["mean"].tolist() == [2.0, 5.0]
    assert short["low"].isna().all()
    assert smooth(pd.Series([np.nan, np.nan])).empty


def test_wilsons_interval_by_hand() -> None:
    # 8 of 10: centre (8 + z²/2) / (10 + z²), z = 1.96.
    assert share_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share_interval(0.0, 0) == (0.0, 1.0)
