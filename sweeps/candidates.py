"""The points of a space that may still be tried, and the axes as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial

from sweeps.attributes import CAUSE, REFERENCE
from sweeps.axes import UPDATES, Point, is_number
from sweeps.failures import excludes_larger
from sweeps.space import Space


def out_of_memory(trials: Sequence[FrozenTrial]) -> list[Point]:
    """Return the points of the trials that ran out of memory."""
    return [trial.params for trial in trials if excludes_larger(trial.user_attrs.get(CAUSE, ""))]


def untried(space: Space, points: Sequence[Point], trials: Sequence[FrozenTrial]) -> list[Point]:
    """Return the untried ones of `points`, without those at least as large as one that ran out of memory.

    A trial of the reference does not count for its point: the experiment itself may have other values for the keys
    that are derived from a point.
    """
    # A trial of another worker may have values for some of the axes only.
    whole = [trial for trial in trials if len(trial.params) == len(space.axes)]
    tried = {key(space, trial.params) for trial in whole if REFERENCE not in trial.user_attrs}
    too_large = out_of_memory(trials)
    return [
        point
        for point in points
        if key(space, point) not in tried and not any(at_least_as_large(point, bad) for bad in too_large)
    ]


def key(space: Space, point: Point) -> tuple[Any, ...]:
    """Return a point's values in the order of the axes."""
    return tuple(point[axis] for axis in space.axes)


def at_least_as_large(point: Point, failed: Point) -> bool:
    """Return whether no number of `point` is smaller than that of `failed`, and all other values are equal.

    The updates per step are left out, since they do not change the memory.
    """
    return all(
        point[axis] >= value if is_number(value) else point[axis] == value
        for axis, value in failed.items()
        if axis != UPDATES
    )


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return each axis as Optuna's distribution: numbers as a range, other values as categories."""
    return {axis: _distribution(values) for axis, values in space.axes.items()}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    if all(is_number(value) and isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values), log=min(values) > 0)
    if all(is_number(value) for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(values)


def suggest_point(trial: Trial, space: Space) -> Point:
    """Return the point that the study's sampler suggests for `trial`, a value on every axis."""
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
