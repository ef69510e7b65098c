"""The statistics of a comparison: intervals of means, paired differences, smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

LEVEL = 0.95
RESAMPLES = 10_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values and its interval at `LEVEL`; NaN where there are no values."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Paired:
    """How much better `b` is than `a` on the same problems.

    Attributes:
        difference: mean of b - a, with its paired bootstrap interval.
        only_a: problems that a alone got right; None where a problem has several answers and no single verdict.
        only_b: those that b alone got right.
        p_value: of McNemar's exact test; None where there is no single verdict a problem.
    """

    difference: Estimate
    only_a: int | None
    only_b: int | None
    p_value: float | None


def mean_interval(values: Floats, seed: int = 0) -> Estimate:
    """Return the mean with its percentile bootstrap interval (Efron 1979); NaN counts as no value."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan, 0)
    distinct, counts = np.unique(values, return_counts=True)
    # A resample's mean depends only on the counts of distinct values: a hundred times faster for verdicts.
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ distinct / len(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def compare_paired(a: Floats, b: Floats) -> Paired:
    """Compare two runs' accuracy on the same problems, in the same order.

    McNemar's exact test (1947): of the problems that only one run got right, is each run's share one half?
    """
    difference = mean_interval(b - a)
    if not len(a) or not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        return Paired(difference, None, None, None)
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    p_value = float(stats.binomtest(only_b, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return Paired(difference, only_a, only_b, p_value)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values corrected for their number (Holm 1979), in the same order; None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[index] = highest
    return corrected


def smooth(values: pd.Series[float]) -> pd.DataFrame:
    """Return the running mean of noisy `values` and its interval: columns mean, low, high, on the values' index.

    The window is centred and a fifteenth of the series wide, at least 3 values; the interval is Student's, as if the
    values in a window had one mean. Fewer than 15 values are too few: they stay as they are, without interval.
    """
    values = values.dropna()
    width = max(3, len(values) // 15) | 1 if len(values) >= 15 else 1
    window = values.rolling(width, center=True, min_periods=1)
    mean, count = window.mean(), window.count()
    error = window.std() / np.sqrt(count)
    margin = error * stats.t.ppf((1 + LEVEL) / 2, (count - 1).clip(lower=1))
    line: pd.DataFrame = pd.DataFrame({"mean": mean, "low": mean - margin, "high": mean + margin})
    return line


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a share of `n`; n = 0 gives 0 to 1."""
    if not n:
        return 0.0, 1.0
    found = stats.binomtest(round(share * n), n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)
