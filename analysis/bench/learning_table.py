"""The arms of `analysis.bench.learning` as two tables: what each gained, and what they did in the same steps.

python -m analysis.bench.learning_table ARMS.json [--window N]

With --window the means of each N steps in a row follow, a table for each arm.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from analysis.bench.curve import table as curve_table
from analysis.bench.curve import windows
from guidelines_core.terminal import plain_console

WINDOW = 8
"""Steps at the end whose rewards are averaged."""

MEDIANS = {
    "timing_s/step": "step, s",
    "timing_s/gen": "rollouts, s",
    "timing_s/reward": "rewards after them, s",
    "timing_s/ref": "reference log-probs, s",
    "timing_s/update_actor": "update, s",
    "timing_s/update_weights": "weights to the engine, s",
}
"""Seconds of a step's parts, and how the table calls them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.bench.learning_table", description="What the arms gained, and what they cost."
    )
    parser.add_argument("arms", type=Path, metavar="ARMS.json", help="the JSON of analysis.bench.learning")
    parser.add_argument("--window", type=int, metavar="N", help="the means of each N steps in a row, too")
    options = parser.parse_args(arguments)
    arms = json.loads(options.arms.read_text(encoding="utf-8"))["arms"]
    out = plain_console()
    out.print(table(arms), same_steps(arms))
    for arm in arms if options.window else []:
        out.print(arm["name"], curve_table(windows(pd.DataFrame(arm["curve"]), options.window)))
    return 0


def table(arms: Sequence[Mapping[str, Any]]) -> Table:
    """Return the arms as a table: all in percent, gains in points of accuracy with their intervals."""
    drawn = Table(caption="gain: over the untrained planner's, and over none; same: guidelines of several problems")
    drawn.add_column("arm", no_wrap=True)
    for title in ("steps", "none", "untrained", "trained", "gain", "leaks", "same"):
        drawn.add_column(title, justify="right", no_wrap=title != "gain")
    for arm in arms:
        accuracy = arm["accuracy"]
        drawn.add_row(
            arm["name"],
            str(arm["steps"]),
            *(f"{100 * accuracy[kind]:.1f}" if kind in accuracy else "" for kind in ("none", "untrained", "trained")),
            "\n".join(points(arm.get(name)) for name in ("trained_over_untrained", "trained_over_none")),
            *("" if arm.get(name) is None else f"{100 * arm[name]:.1f}" for name in ("leak_rate", "repeated")),
        )
    return drawn


def points(found: Mapping[str, float] | None) -> str:
    """Return a difference with its interval, "" where it was not measured."""
    return "" if found is None else f"{found['points']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def same_steps(arms: Sequence[Mapping[str, Any]]) -> Table:
    """Return rewards, seconds and memory of the arms over the steps that all of them have, so over as many samples.

    Rewards are means of the first and of the last `WINDOW` of these steps; seconds are medians without the first step;
    memory is the highest that the actor allocated, in GiB (verl counts so and calls it gb).
    """
    curves = [pd.DataFrame(arm["curve"]).set_index("step") for arm in arms]
    steps = min(len(curve) for curve in curves)
    same = [curve.head(steps) for curve in curves]
    window = min(WINDOW, steps)
    drawn = Table("", title=f"steps 1 to {steps}", title_justify="left")
    for arm in arms:
        drawn.add_column(arm["name"], justify="right")
    rows = {
        f"reward of the first {window}": [_value(curve.head(window), "reward/mean", "mean", ".3f") for curve in same],
        f"reward of the last {window}": [_value(curve.tail(window), "reward/mean", "mean", ".3f") for curve in same],
        "KL of the last": [_value(curve.tail(1), "actor/kl_loss", "mean", ".2g") for curve in same],
        **{title: [_value(curve[1:], name, "median") for curve in same] for name, title in MEDIANS.items()},
        "actor's peak memory, GiB": [_value(curve, "actor/perf/max_memory_allocated_gb", "max") for curve in same],
    }
    for title, cells in rows.items():
        if any(cells):
            drawn.add_row(title, *cells)
    return drawn


def _value(rows: pd.DataFrame, name: str, of: str, form: str = ".1f") -> str:
    """Return a statistic of a column, "" where no step has it."""
    return "" if name not in rows or rows[name].dropna().empty else f"{rows[name].astype(float).agg(of):{form}}"


if __name__ == "__main__":
    sys.exit(main())
