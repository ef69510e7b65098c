"""What the sweep tries next: of the points that can run, the one that promises most.

The model and what it promises are Optuna's (`GPSampler`: Gaussian processes, constrained expected improvement, or
improvement of the Pareto front). What is ours is the choice: only points of the grid, untried, that preflight accepts
and whose estimated memory is below that of every trial that ran out of memory.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweeps.axes import Point
from sweeps.candidates import distributions, out_of_memory, untried
from sweeps.space import Space

Array = NDArray[np.float64]

STARTUP = 4
"""Trials, failed ones included, before the model proposes."""


class Exhausted(RuntimeError):
    """No point is left to try."""


class FeasibleSampler(GPSampler):
    """Proposes only points that can run, were not tried, and are not known to need too much memory.

    Args:
        space: the points.
        seed: of every random number.
    """

    def __init__(self, space: Space, seed: int | None) -> None:
        super().__init__(seed=seed, n_startup_trials=2, warn_independent_sampling=False)
        self._space = space
        self._random = random.Random(seed)
        self._within: tuple[Any, ...] | None = None
        self._points = list(space.points())
        self._left: list[Point] = []
        self._promise: Array = np.zeros(0)

    def stay_within(self, cold: tuple[Any, ...] | None) -> None:
        """Propose points that need no new start of a trainer with these cold values while any are left; None: any."""
        self._within = cold

    def exhausted(self, study: Study) -> bool:
        """Say whether no point is left to try."""
        trials = study.get_trials(deepcopy=False)
        too_large = out_of_memory(trials)
        return not any(self._can_run(point, too_large) for point in untried(self._space, self._points, trials))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every axis with more than one value, whatever the finished trials had."""
        return {axis: values for axis, values in distributions(self._space).items() if not values.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refuse: `sample_relative` returns every axis.

        Raises:
            KeyError: always.
        """
        raise KeyError(
            f"{param_name} is no axis of this space: expected one of {', '.join(distributions(self._space))}"
        )

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point, all of its axes; nothing for a trial whose point is given.

        Raises:
            Exhausted: nothing is left.
        """
        if trial.system_attrs.get("fixed_params"):
            return {}
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        measured = [other for other in others if other.state == TrialState.COMPLETE]
        too_large = out_of_memory(others)
        left = untried(self._space, self._points, others)
        within = [point for point in left if self._space.cold(point) == self._within]
        for candidates in (within, left):
            self._left = self._random.sample(candidates, len(candidates))
            self._promise = np.zeros(len(candidates))
            if candidates and len(measured) >= 2 and len(measured) + len(too_large) >= STARTUP:
                super().sample_relative(study, trial, search_space)  # calls `_optimize_acqf`
            chosen = self._chosen(too_large)
            if chosen is not None:
                return chosen
        raise Exhausted("every point that can run was tried, or is no smaller than one that ran out of memory")

    def _optimize_acqf(self, acqf: Any, best_params: Any) -> Array:
        """Note what every point that is left promises, as the logarithm of an improvement, and return the best one.

        Optuna lets a subclass replace this method, by which it looks for the best point of the whole range.
        """
        at = acqf.search_space.get_normalized_params(self._left, self._left)
        self._promise = acqf.eval_acqf_no_grad(at)
        return np.asarray(at[int(np.argmax(self._promise))])

    def _chosen(self, too_large: Sequence[Point]) -> Point | None:
        """Return the point that promises most of those that are left and can run; None if none of them can."""
        ranked = (self._left[index] for index in np.argsort(-self._promise, kind="stable"))
        return next((point for point in ranked if self._can_run(point, too_large)), None)

    def _can_run(self, point: Point, too_large: Sequence[Point]) -> bool:
        """Say whether preflight accepts a point and its estimated memory, if any, is below that of all `too_large`."""
        if self._space.reason(point) is not None:
            return False
        share = self._space.memory_share
        return not share(point) or all(share(point) < share(other) for other in too_large)
