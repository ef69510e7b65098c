"""Optuna's own Gaussian-process sampler on a sweep's space, to be compared with the sweep's sampler.

`GPSampler` proposes an index on each axis, so that the values of an axis are equally far apart. It learns the rate's
logarithm and two constraints: the truncated share, and whether a trial failed. A point that cannot run is told to it as
a failure at once and costs no trial; a point that was measured is told to it again with the same figures.
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
"""Random trials before the first proposal of the model, as many as the sweep's own sampler makes."""

TRIES = 100
"""Proposals that may be told to the sampler at once before a random point is taken."""


class LibrarySampler(BaseSampler):
    """Proposes what `GPSampler` proposes.

    Args:
        space: the points.
        seed: of its random numbers.
        limit: the truncated share that is allowed.
    """

    def __init__(self, space: Space, seed: int, limit: float = 0.05) -> None:
        self._space, self._limit = space, limit
        self._indices: dict[str, BaseDistribution] = {
            axis: IntDistribution(0, len(values) - 1) for axis, values in space.axes.items()
        }
        sampler = GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
        self._inner = optuna.create_study(direction="maximize", sampler=sampler)
        self._told: set[int] = set()

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
        """Return the next point that can run and was not tried."""
        finished = [
            other for other in study.get_trials(deepcopy=False) if CAUSE in other.user_attrs or RATE in other.user_attrs
        ]
        for other in finished:
            if other.number not in self._told:
                self._told.add(other.number)
                self._tell(other.params, other)
        tried = {tuple(other.params.values()): other for other in finished}
        for _ in range(TRIES):
            proposed = self._inner.ask(self._indices)
            self._inner.tell(proposed, state=TrialState.FAIL)
            point = {axis: values[proposed.params[axis]] for axis, values in self._space.axes.items()}
            repeated = tried.get(tuple(point.values()))
            if repeated is None and self._space.reason(point) is None:
                return point
            if len(finished) >= STARTUP:
                self._tell(point, repeated)
        raise RuntimeError(f"{TRIES} proposals in a row cannot run")

    def _tell(self, point: Point, trial: FrozenTrial | None) -> None:
        """Tell the sampler how a point ended: as `trial` did, or that it cannot run."""
        known = self._inner.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial is None or CAUSE in trial.user_attrs:
            # As slow as the slowest, and cut as the others are: what is known to be wrong is the failure alone.
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
