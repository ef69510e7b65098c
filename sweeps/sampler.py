"""What the sweep tries next: the point of the grid that promises most, of those that can run.

Bayesian optimisation over a finite set (Jones et al. 1998; with constraints, Gardner et al. 2014): Gaussian processes
for the throughput's logarithm, for the truncated share and for failures give each untried point its expected
improvement times its chance to keep the limits. Whether a point can run is asked in that order, of few points only.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Kernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from sweeps.space import UPDATES, Point, Space

CAUSE = "cause"
"""User attribute of a trial that failed: why."""

REFERENCE = "reference"
"""User attribute of the trial that measures the experiment as it is."""

RATE, TRUNCATED = "rate", "truncated"
"""User attributes of a measured trial: graded rollouts a second, and the larger truncated share."""

Array = NDArray[np.float64]

LOOKED_AT = 100
"""Of the points that promise most, how many are asked whether they can run and how much memory they take."""

CAUTION = 7
"""Power of the chance that a point fits: a trial that runs out of memory costs a new start, not only its time."""


class FeasibleSampler(BaseSampler):
    """Proposes only points that can run, were not tried, and that no failure speaks against (`no_smaller`).

    Args:
        space: the points.
        seed: of the first, random points.
        limit: the truncated share that is allowed; None draws one for each trial, which traces the Pareto front.
        startup: trials before the models are request.
    """

    def __init__(self, space: Space, seed: int | None, limit: float | None = 0.05, startup: int = 4) -> None:
        self._space = space
        self._random = random.Random(seed)
        self._limit = limit
        self._startup = startup
        self._within: tuple[Any, ...] | None = None
        self._points = list(space.points())
        self._encoded = encode(space.axes, self._points)

    def stay_within(self, cold: tuple[Any, ...] | None) -> None:
        """Propose points that need no new start of a trainer with these cold values, if there are any left; or any."""
        self._within = cold

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every axis, whatever the finished trials had."""
        return dict(distributions(self._space))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refuse: `sample_relative` gives every axis, so Optuna asks here for what is none.

        Raises:
            KeyError: always.
        """
        raise KeyError(
            f"{param_name} is no axis of this space: expected one of {', '.join(distributions(self._space))}"
        )

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point, all of its axes.

        Raises:
            Exhausted: nothing is left.
        """
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        failed = [other.params for other in others if CAUSE in other.user_attrs]
        measured = [other for other in others if other.state == TrialState.COMPLETE]
        for anywhere in (False, True):
            left = self._left(others, anywhere)
            self._random.shuffle(left)
            promise = np.ones(len(left))
            if left and len(measured) > 1 and len(measured) + len(failed) >= self._startup:
                promise = self._promise(measured, self._encoded[left])
                order = np.argsort(-promise, kind="stable")
                left, promise = [left[index] for index in order], promise[order]
            chosen = self._choose(left, promise, measured, failed)
            if chosen is not None:
                return chosen
        raise Exhausted("every point of the space that can run was tried, or asks for no less than one that failed")

    def exhausted(self, study: Study) -> bool:
        """Say whether nothing is left to try."""
        left = self._left(study.get_trials(deepcopy=False), anywhere=True)
        return not any(self._space.reason(self._points[index]) is None for index in left)

    def _left(self, others: Sequence[FrozenTrial], anywhere: bool = False) -> list[int]:
        """Return the points that were not tried and that no failure speaks against, where the sampler is to stay."""
        # Another worker's trial gets its axes one after the other.
        whole = [other for other in others if len(other.params) == len(self._space.axes)]
        tried = {self._key(other.params) for other in whole if REFERENCE not in other.user_attrs}
        failed = [other.params for other in others if CAUSE in other.user_attrs]
        found = [
            index
            for index, point in enumerate(self._points)
            if self._key(point) not in tried and not any(no_smaller(point, bad) for bad in failed)
        ]
        within = [index for index in found if self._space.cold(self._points[index]) == self._within]
        return found if anywhere or self._within is None or not within else within

    def _choose(
        self, left: list[int], promise: Array, measured: Sequence[FrozenTrial], failed: Sequence[Point]
    ) -> Point | None:
        """Return the point to try of those in `left`, which are sorted by promise; None if none of them can run."""
        can_run = (place for place, index in enumerate(left) if self._space.reason(self._points[index]) is None)
        places = list(itertools.islice(can_run, LOOKED_AT))
        if not places:
            return None
        points = [self._points[left[place]] for place in places]
        estimated = any(self._space.memory_share(point) for point in points)
        if not estimated and not failed:
            return points[int(np.argmax(promise[places]))]
        # Where no memory is estimated, what failed is taken to have been too large as a whole.
        size = self._space.memory_share if estimated else self._size
        chance = fits(
            [size(point) for point in points],
            [size(trial.params) for trial in measured],
            [size(point) for point in failed],
        )
        return points[int(np.argmax(promise[places] * chance**CAUTION))]

    def _size(self, point: Point) -> float:
        """Return where a point lies between the smallest, 0.5, and the largest, 1, of the space."""
        numbers = [axis for axis, values in self._space.axes.items() if is_number(values[0]) and len(values) > 1]
        axes = {axis: self._space.axes[axis] for axis in numbers}
        return float(0.5 + 0.5 * encode(axes, [point]).mean()) if axes else 1.0

    def _key(self, point: Point) -> tuple[Any, ...]:
        return tuple(point[axis] for axis in self._space.axes)

    def _promise(self, measured: Sequence[FrozenTrial], candidates: Array) -> Array:
        """Return each candidate's expected improvement of log-throughput times its chance to keep the limits."""
        at = encode(self._space.axes, [trial.params for trial in measured])
        rates = np.log([trial.user_attrs[RATE] for trial in measured])
        truncated = np.array([trial.user_attrs[TRUNCATED] for trial in measured])
        limit = self._random.choice([0.01, 0.02, 0.05, 0.1, 0.2, 0.4]) if self._limit is None else self._limit
        speed = fitted(at, rates)
        expected, deviation = speed.predict(candidates, return_std=True)
        kept = truncated <= limit
        chance = self._chance_of_truncation(at, truncated, limit, candidates)
        if not kept.any():
            return np.asarray(chance * np.exp(expected - expected.max()))
        # The best of what the model believes, not of the noisy measurements.
        best = speed.predict(at[kept]).max()
        z = (expected - best) / np.maximum(deviation, 1e-9)
        improvement = deviation * (z * norm.cdf(z) + norm.pdf(z))
        return np.asarray(improvement * chance)

    @staticmethod
    def _chance_of_truncation(at: Array, truncated: Array, limit: float, candidates: Array) -> Array:
        """Return each candidate's chance to truncate no more than `limit`."""
        if truncated.max() <= limit:
            return np.ones(len(candidates))
        mean, deviation = fitted(at, logit(truncated)).predict(candidates, return_std=True)
        return np.asarray(norm.cdf((logit(np.array(limit)) - mean) / np.maximum(deviation, 1e-9)))


class Exhausted(RuntimeError):
    """There is nothing left to try."""


def fitted(at: Array, values: Array) -> GaussianProcessRegressor:
    """Return a Gaussian process through noisy `values` at `at`: a trend in each axis, and what bends it."""
    trend: Kernel = ConstantKernel(1.0, (1e-2, 1e2)) * DotProduct(1.0, (1e-1, 1e1))
    bend: Kernel = ConstantKernel(0.3, (1e-2, 1e1)) * Matern(np.ones(at.shape[1]), (0.2, 1e1), nu=2.5)
    model = GaussianProcessRegressor(trend + bend + WhiteKernel(1e-2, (1e-4, 1e-1)), normalize_y=True, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):
        # Threads cost more than they give with so few points. That a length lies at its bound is what few points say.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(at, values)
    return model


def fits(shares: Sequence[float], worked: Sequence[float], failed: Sequence[float]) -> Array:
    """Return each estimated share's chance to fit, if all estimates are wrong by one unknown factor.

    Args:
        shares: of a GPU's memory, as estimated.
        worked: those of the trials that ended well.
        failed: those of the trials that failed.
    """
    factors = np.linspace(0.5, 2.5, 161)
    belief = norm.pdf(np.log(factors), np.log(1.1), 0.2) / factors

    def chance(share: float) -> Array:
        # Soft: one factor is not the whole truth.
        return np.asarray(1 / (1 + np.exp(40 * (factors * share - 1))))

    for share in worked:
        belief = belief * chance(share)
    for share in failed:
        belief = belief * (1 - chance(share) + 1e-6)
    return np.array([float((belief * chance(share)).sum() / belief.sum()) for share in shares])


def encode(axes: Mapping[str, Sequence[Any]], points: Iterable[Point]) -> Array:
    """Return points as rows, one for each: a number's logarithm in its axis's range, 0 to 1; a word as columns."""
    columns = []
    given = list(points)
    for axis, values in axes.items():
        if all(is_number(value) and value > 0 for value in values):
            low, high = np.log(min(values)), np.log(max(values))
            columns.append([(np.log(point[axis]) - low) / max(high - low, 1e-9) for point in given])
        else:
            columns += [[float(point[axis] == value) for point in given] for value in values]
    rows: Array = np.array(columns, dtype=float).T.reshape(len(given), len(columns))
    return rows


def is_number(value: Any) -> bool:
    """Say whether a value is ordered: a number other than a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def logit(share: Array) -> Array:
    """Return the log-odds of a share, 0.1 % away from none and all."""
    inside = np.clip(share, 1e-3, 1 - 1e-3)
    odds: Array = np.log(inside / (1 - inside))
    return odds


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return each axis as Optuna's distribution: numbers as a range, of which the sampler takes the axis's values."""
    return {axis: _distribution(values) for axis, values in space.axes.items()}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    if all(is_number(value) and isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values), log=min(values) > 0)
    if all(is_number(value) for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(values)


def suggested(trial: Trial, space: Space) -> Point:
    """Return the trial's point."""
    point: Point = {}
    for axis, distribution in distributions(space).items():
        if isinstance(distribution, IntDistribution):
            point[axis] = trial.suggest_int(axis, distribution.low, distribution.high, log=distribution.log)
        elif isinstance(distribution, FloatDistribution):
            point[axis] = trial.suggest_float(axis, distribution.low, distribution.high)
        else:
            assert isinstance(distribution, CategoricalDistribution)
            point[axis] = trial.suggest_categorical(axis, distribution.choices)
    return point


def no_smaller(point: Point, failed: Point) -> bool:
    """Say whether a point is the failed one or asks for more: no number smaller, every other value the same.

    More updates of the same batch ask for no more.
    """
    return all(
        point[axis] >= value if is_number(value) else point[axis] == value
        for axis, value in failed.items()
        if axis != UPDATES
    )
