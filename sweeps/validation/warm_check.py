"""Compare warm trials with cold ones: their rates, and the seconds of each.

    python -m sweeps.validation.warm_check --name NAME [--times 3] [key=value …]

Measures the experiment `--times` times in one trainer, each time after another point whose changes must be undone, and
as often in a new trainer. Prints the ratio of the rates with its interval, and the seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from guidelines_core.preflight import check, prepare
from guidelines_core.terminal import plain_console
from guidelines_core.verl_adapter.trials import GAP
from sweeps.axes import SPACES, Point
from sweeps.export import Ratio, ratio
from sweeps.loop import TrialRequest
from sweeps.machine import Machine
from sweeps.record import Record
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, open_study
from sweeps.trial import Steps, Trials


@dataclass(frozen=True)
class Check:
    """The result of the comparison.

    Attributes:
        ratio: the warm rate divided by the cold rate.
        warm_s, cold_s: median seconds of a trial, including its trainer's start.
        gap_s: the longest time between two trials of one trainer, in seconds.
    """

    ratio: Ratio
    warm_s: float
    cold_s: float
    gap_s: float


def compare(name: str, overrides: list[str], times: int) -> Check:
    """Measure experiment `name` warm and cold."""
    steps = Steps(measured=3)
    space = Space.load(SPACES / "quick.yaml", name, (*overrides, *steps.overrides()), Machine.here())
    config = space.config(None)
    prepare(config, check(config, dry_run=False, resume=False))
    folder = Path(f"{config.trainer.default_local_dir}-warm-check-{os.getpid()}")
    folder.mkdir(parents=True)
    goal = Goal(limit=1.0)
    study = open_study(space, goal, open_storage(f"sqlite:///{folder / 'optuna.db'}"))
    record = Record(study, config.trainer.project_name, folder)
    others = (point for point in space.points() if point != space.reference and space.reason(point) is None)
    rates: dict[str, list[float]] = {"warm": [], "cold": []}
    seconds: dict[str, list[float]] = {"warm": [], "cold": []}
    gaps: list[float] = []

    def one(trials: Trials, label: str, point: Point) -> tuple[float, float]:
        began = time.monotonic()
        measured = trials.measure(TrialRequest(label, point, point == space.reference, lambda *_: None))
        gaps.extend([measured.metrics[GAP]] if GAP in measured.metrics else [])
        return measured.value, time.monotonic() - began

    warm = Trials(space, goal, steps, record, folder / "warm")
    try:
        for turn in range(times):
            one(warm, f"between-{turn}", next(others))
            rate, took = one(warm, f"warm-{turn}", space.reference)
            rates["warm"].append(rate)
            seconds["warm"].append(took)
    finally:
        warm.close()
    for turn in range(times):
        cold = Trials(space, goal, steps, record, folder / f"cold-{turn}")
        try:
            rate, took = one(cold, f"cold-{turn}", space.reference)
        finally:
            cold.close()
        rates["cold"].append(rate)
        seconds["cold"].append(took)
    record.close("FINISHED", "measured", {})
    return Check(
        ratio(rates["warm"], rates["cold"]),
        statistics.median(seconds["warm"]),
        statistics.median(seconds["cold"]),
        max(gaps),
    )


def main() -> int:
    """Print the comparison and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sweeps.validation.warm_check", description="A warm trial against a cold one."
    )
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument("--times", type=int, default=3, help="trials of each kind (default %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the composed configuration")
    options = parser.parse_intermixed_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = compare(options.name, options.overrides, options.times)
    plain_console().print(
        f"warm rate by cold rate: {found.ratio}\n"
        f"a warm trial took {found.warm_s:.1f} s, a cold one {found.cold_s:.1f} s: {found.warm_s / found.cold_s:.0%}\n"
        f"between two warm trials {found.gap_s:.2f} s at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
