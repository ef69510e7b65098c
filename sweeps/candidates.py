"""Which points of a space may still be tried, and how an axis is given to Optuna."""

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
    """Return those of `points` that no trial has tried and that are smaller than all that ran out of memory.

    The reference's point counts as tried only by a trial of its own: the experiment as it is may have other values
    for the keys that a point derives.
    """
    # Another worker's trial gets its axes one after the other.
    whole = [trial for trial in trials if len(trial.params) == len(space.axes)]
    tried = {key(space, trial.params) for trial in whole if REFERENCE not in trial.user_attrs}
    too_large = out_of_memory(trials)
    return [
        point
        for point in points
        if key(space, point) not in tried and not any(no_smaller(point, bad) for bad in too_large)
    ]


def key(space: Space, point: Point) -> tuple[Any, ...]:
    """Return a point's values in the order of the axes."""
    return tuple(point[axis] for axis in space.axes)


def no_smaller(point: Point, failed: Point) -> bool:
    """Say whether a point is the failed one or asks for more: no number smaller, every other value the same.

    More updates of the same batch ask for no more.
    """
    return all(
        point[axis] >= value if is_number(value) else point[axis] == value
        for axis, value in failed.items()
        if axis != UPDATES
    )


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
