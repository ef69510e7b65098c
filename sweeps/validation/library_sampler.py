"""Optuna's own Gaussian-process sampler on a sweep's space, to be compared with the sweep's sampler.

`GPSampler` proposes an index on each axis, so the values of an axis have equal distances. It models the rate's
logarithm and two constraints: the truncated share, and whether a trial failed. A proposed point that cannot run is
reported to it as a failure and costs no trial; one that was measured before is reported again with the same result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.attributes import CAUSE, RATE, TRUNCATED
from sweeps.axes import Point
from sweeps.candidates import distributions
from sweeps.space import Space

STARTUP = 4
"""The number of random trials before the model is used, the same as for the sweep's sampler."""

TRIES = 100
"""The largest number of proposals for one trial."""


class LibrarySampler(BaseSampler):
    """Proposes the points of `GPSampler` that can run.

    Args:
        space: the space to choose from.
        seed: the seed of its random numbers.
        limit: the largest truncated share that is allowed.
    """

    def __init__(self, space: Space, seed: int, limit: float = 0.05) -> None:
        self._space, self._limit = space, limit
        self._indices: dict[str, BaseDistribution] = {
            axis: IntDistribution(0, len(values) - 1) for axis, values in space.axes.items()
        }
        sampler = GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
        self._inner = optuna.create_study(direction="maximize", sampler=sampler)
        self._reported: set[int] = set()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every axis."""
        return distributions(self._space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Refuse: `sample_relative` returns every axis.

        Raises:
            KeyError: always.
        """
        raise KeyError(f"{name} is no axis of this space: expected one of {', '.join(distributions(self._space))}")

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next untried point that can run.

        Raises:
            RuntimeError: `TRIES` proposals in a row cannot run.
        """
        finished = [
            other for other in study.get_trials(deepcopy=False) if CAUSE in other.user_attrs or RATE in other.user_attrs
        ]
        for other in finished:
            if other.number not in self._reported:
                self._reported.add(other.number)
                self._report(other.params, other)
        tried = {tuple(other.params.values()): other for other in finished}
        for _ in range(TRIES):
            proposed = self._inner.ask(self._indices)
            self._inner.tell(proposed, state=TrialState.FAIL)
            point = {axis: values[proposed.params[axis]] for axis, values in self._space.axes.items()}
            repeated = tried.get(tuple(point.values()))
            if repeated is None and self._space.reason(point) is None:
                return point
            if len(finished) >= STARTUP:
                self._report(point, repeated)
        raise RuntimeError(f"{TRIES} proposals in a row cannot run")

    def _report(self, point: Point, trial: FrozenTrial | None) -> None:
        """Report a point's result to the sampler: that of `trial`, or for None a failure."""
        known = self._inner.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial is None or CAUSE in trial.user_attrs:
            # The slowest rate and the median truncated share, so that only the failure tells the model anything new.
            value = min((other.values[0] for other in known), default=0.0)
            cut = float(np.median([other.constraints["truncated"] for other in known])) if known else 0.0
            constraints = {"failed": 1.0, "truncated": cut}
        else:
            value = math.log(trial.user_attrs[RATE])
            constraints = {"failed": -1.0, "truncated": trial.user_attrs[TRUNCATED] - self._limit}
        params = {axis: self._space.axes[axis].index(at) for axis, at in point.items()}
        self._inner.add_trial(
            create_trial(value=value, params=params, distributions=self._indices, constraints=constraints)
        )
