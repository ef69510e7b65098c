"""Computes the cost of trials: hours, GPU-hours, and money if `guidelines.cost.gpu_hour` is set.

A trial holds the GPUs of its layout from its request to its end, including the start of a trainer. A trial whose worker
was killed has no cost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from optuna.trial import FrozenTrial, Trial

from guidelines_core.config import layout
from guidelines_core.runs.cost import DOLLARS, GPU_HOURS, HOURS, Meter, amounts, figure
from sweeps.axes import Point
from sweeps.space import Space

TOTALS = (HOURS, GPU_HOURS, DOLLARS)
"""User attributes of a trial, named like the metrics in a run's journal; `DOLLARS` only if there is a price."""


@contextmanager
def recording_cost(trial: Trial, space: Space, point: Point) -> Iterator[None]:
    """Record the cost of the enclosed code in the user attributes of `trial`, also after an exception."""
    config = space.reused_config(point)
    meter = Meter(layout.gpus_held(config), config.guidelines.cost.gpu_hour, time.time(), {})
    try:
        yield
    finally:
        for name, value in meter.total(time.time()).items():
            trial.set_user_attr(name, value)


def of_trial(trial: FrozenTrial) -> dict[str, float]:
    """Return the recorded ones of `TOTALS` of a trial; empty if none was recorded, or only some so far."""
    if HOURS not in trial.user_attrs or GPU_HOURS not in trial.user_attrs:
        return {}
    return {name: float(trial.user_attrs[name]) for name in TOTALS if name in trial.user_attrs}


def of_study(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return the sums over all trials, including those that were repeated.

    There is no sum of dollars if only some of the trials had a price.
    """
    known = [cost for trial in trials if (cost := of_trial(trial))]
    return {name: sum(cost[name] for cost in known) for name in TOTALS if known and all(name in cost for cost in known)}


def in_words(cost: dict[str, float]) -> str:
    """Return a trial's or a study's cost, such as `0.31 GPU-hours, $0.78`, on a CPU `0.12 hours`; empty if unknown."""
    if not cost:
        return ""
    if not cost[GPU_HOURS]:
        return f"{figure(cost[HOURS])} hours"
    return amounts(cost[GPU_HOURS], None, cost.get(DOLLARS))
