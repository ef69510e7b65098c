"""The sweep's sampler: it proposes the point with the best score of those that can run.

Optuna's `GPSampler` computes the scores (Gaussian processes with constrained expected improvement, or improvement of
the Pareto front). The sampler here restricts the choice to untried points of the grid that preflight accepts and whose
estimated memory is below that of every trial that ran out of memory.
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
"""Trials, failed ones included, before the model is used."""


class SpaceExhaustedError(RuntimeError):
    """No point of the space is left to try."""


class FeasibleSampler(GPSampler):
    """Proposes untried points that can run and need less memory than every trial that ran out of it.

    Args:
        space: the space to choose from.
        seed: the seed of all random numbers; None draws one.
    """

    def __init__(self, space: Space, seed: int | None) -> None:
        super().__init__(seed=seed, n_startup_trials=2, warn_independent_sampling=False)
        self._space = space
        self._random = random.Random(seed)
        self._cold: tuple[Any, ...] | None = None
        self._points = list(space.points())
        self._candidates: list[Point] = []
        self._scores: Array = np.zeros(0)

    def prefer_cold(self, cold: tuple[Any, ...] | None) -> None:
        """Propose points with these cold values, which need no new trainer, while any are left; None: all points."""
        self._cold = cold

    def exhausted(self, study: Study) -> bool:
        """Return whether no point is left to try."""
        trials = study.get_trials(deepcopy=False)
        too_large = out_of_memory(trials)
        return not any(self._can_run(point, too_large) for point in untried(self._space, self._points, trials))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every axis with more than one value, regardless of the finished trials."""
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
        """Return the next point, a value on every axis; an empty one for a trial whose point is fixed.

        Raises:
            SpaceExhaustedError: no point is left.
        """
        if trial.system_attrs.get("fixed_params"):
            return {}
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        measured = [other for other in others if other.state == TrialState.COMPLETE]
        too_large = out_of_memory(others)
        left = untried(self._space, self._points, others)
        within = [point for point in left if self._space.cold(point) == self._cold]
        for candidates in (within, left):
            self._candidates = self._random.sample(candidates, len(candidates))
            self._scores = np.zeros(len(candidates))
            if candidates and len(measured) >= 2 and len(measured) + len(too_large) >= STARTUP:
                super().sample_relative(study, trial, search_space)  # calls `_optimize_acqf`
            chosen = self._chosen(too_large)
            if chosen is not None:
                return chosen
        raise SpaceExhaustedError(
            "every point that can run was tried, or is no smaller than one that ran out of memory"
        )

    def _optimize_acqf(self, acqf: Any, best_params: Any) -> Array:
        """Compute the score of every candidate, the logarithm of an improvement, and return the best candidate.

        This replaces Optuna's search over the whole range, in a method that is meant to be overridden.
        """
        at = acqf.search_space.get_normalized_params(self._candidates, self._candidates)
        self._scores = acqf.eval_acqf_no_grad(at)
        return np.asarray(at[int(np.argmax(self._scores))])

    def _chosen(self, too_large: Sequence[Point]) -> Point | None:
        """Return the candidate with the best score that can run; None if none can."""
        ranked = (self._candidates[index] for index in np.argsort(-self._scores, kind="stable"))
        return next((point for point in ranked if self._can_run(point, too_large)), None)

    def _can_run(self, point: Point, too_large: Sequence[Point]) -> bool:
        """Return whether preflight accepts a point and its memory estimate, if any, is below those of `too_large`."""
        if self._space.reason(point) is not None:
            return False
        share = self._space.memory_share
        return not share(point) or all(share(point) < share(other) for other in too_large)
