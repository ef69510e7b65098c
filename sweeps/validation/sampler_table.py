"""The sweep's sampler against Optuna's, random and grid search on a computed machine (`surface.py`).

    python -m sweeps.validation.sampler_table [--seeds 50] [--trials 20]

Prints the share of the best throughput that each finds, its trials that run out of memory, and its seconds per trial.
Random and grid search draw from the whole space; a point that cannot run costs them a trial.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.table import Table

from guidelines_core.hardware.shapes import gpus
from guidelines_core.terminal import plain_console
from sweeps.attributes import LIMIT, REFERENCE
from sweeps.axes import Point
from sweeps.candidates import distributions
from sweeps.failures import OUT_OF_MEMORY, TrialFailedError
from sweeps.loop import TrialRequest, objective
from sweeps.machine import Machine
from sweeps.objective import Measured
from sweeps.sampler import FeasibleSampler
from sweeps.space import Space
from sweeps.study import Goal, best
from sweeps.validation.library_sampler import LibrarySampler
from sweeps.validation.surface import Surface

WANTED, SHARE_OF_BEST = 0.9, 0.95


@dataclass(frozen=True)
class Search:
    """The result of one study on one seed.

    Attributes:
        found: the true throughput of its best trial, as a share of the highest possible one.
        out_of_memory: the number of trials that ran out of memory.
        seconds: CPU seconds of the study, nearly all of them the sampler's.
    """

    found: float
    out_of_memory: int
    seconds: float


def surface_space() -> Space:
    """Return the space of the comparison: the reference run on four H100."""
    machine = Machine(4, gpus()["H100"])
    return Space.load(
        Path(__file__).with_name("surface.yaml"), "numinamath30k-3b-300steps-mathverify", ["layout=hybrid-3p1"], machine
    )


class ListSampler(BaseSampler):
    """Proposes the points of a list in order."""

    def __init__(self, space: Space, points: Sequence[Point]) -> None:
        self._space, self._points = space, iter(points)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every axis."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point."""
        return next(self._points)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Refuse: `sample_relative` gives every axis, so Optuna asks here for what is none."""
        raise KeyError(f"{name} is no axis of this space: expected one of {', '.join(distributions(self._space))}")


def samplers(space: Space, trials: int) -> dict[str, Callable[[int], BaseSampler]]:
    """Return each sampler by its name, made for a seed: the sweep's, Optuna's, random search, and a grid."""
    points = list(space.points())
    return {
        "sweep's own": lambda seed: FeasibleSampler(space, seed),
        "Optuna's GPSampler": lambda seed: LibrarySampler(space, seed),
        "random": lambda seed: ListSampler(space, random.Random(seed).sample(points, trials)),
        "grid": lambda seed: ListSampler(space, points[seed % (len(points) // trials) :: len(points) // trials]),
    }


def search(space: Space, sampler: BaseSampler, surface: Surface, trials: int) -> Search:
    """Run one study of so many trials on a computed machine; every study on one machine meets the same noise."""
    noise = np.random.default_rng([surface.seed, 1])
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.set_user_attr(LIMIT, Goal().limit)
    study.enqueue_trial(space.reference, user_attrs={REFERENCE: True})
    failures = 0

    def measure(request: TrialRequest) -> Measured:
        nonlocal failures
        outcome = surface.sample(request.point, noise)
        if outcome.out_of_memory:
            failures += 1
            raise TrialFailedError(f"{OUT_OF_MEMORY}: computed")
        return Measured(outcome.rate, outcome.truncated, {})

    began = time.process_time()
    study.optimize(lambda trial: objective(trial, space, Goal(), measure), n_trials=trials)
    seconds = time.process_time() - began
    chosen = best(study)
    true = surface.exact(chosen.params).true_rate if chosen else 0.0
    return Search(true / surface.best(), failures, seconds)


def compare(space: Space, seeds: int, trials: int) -> dict[str, list[Search]]:
    """Return every sampler's searches, one for each seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = samplers(space, trials)
    found: dict[str, list[Search]] = {name: [] for name in made}
    for seed in range(seeds):
        surface = Surface(space, seed)
        for name, make in made.items():
            found[name].append(search(space, make(seed), surface, trials))
    return found


def reached(searches: list[Search]) -> float:
    """Return the share of searches that found `SHARE_OF_BEST` of the best throughput."""
    return float(np.mean([one.found >= SHARE_OF_BEST for one in searches]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.validation.sampler_table", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    space = surface_space()
    table = Table(title=f"{options.trials} trials, {options.seeds} seeds, {len(list(space.points()))} points")
    for column in (
        "sampler",
        f">= {SHARE_OF_BEST:.0%} of the best",
        "median found",
        "worst found",
        "out of memory",
        "CPU s a trial",
    ):
        table.add_column(column, justify="right")
    for name, searches in compare(space, options.seeds, options.trials).items():
        found = [one.found for one in searches]
        failures = np.mean([one.out_of_memory for one in searches])
        table.add_row(
            name,
            f"{reached(searches):.0%}",
            f"{np.median(found):.1%}",
            f"{min(found):.1%}",
            f"{failures:.2f}",
            f"{np.mean([one.seconds for one in searches]) / options.trials:.2f}",
        )
    plain_console().print(table)


if __name__ == "__main__":
    main()
