"""Draws the arms of `analysis.bench.learning`: their curves over the steps, and what their guidelines are worth.

    python -m analysis.bench.learning_picture ARMS.json --curves curves.png [--lift lift.png]

Exit codes: 0 done, 2 refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

CURVES = {
    "reward/mean": "reward",
    "guideline/tokens": "tokens of a guideline",
    "guideline/leak": "guidelines that contain the gold answer",
}
"""The metrics of three panels, and the panels' titles; the fourth has validation accuracy."""

GAINS = {"trained_over_untrained": "untrained planner's", "trained_over_none": "no guideline"}
"""What the trained planner's guidelines are compared with."""

WINDOW = 5
"""The steps of a mean; a step's reward has noise of a few points."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.bench.learning_picture", description="Draw arms.")
    parser.add_argument("arms", type=Path, help="the JSON of analysis.bench.learning")
    parser.add_argument("--curves", type=Path, required=True, help="a picture's file")
    parser.add_argument("--lift", type=Path, help="a picture's file; without it the curves alone are drawn")
    given = parser.parse_args(arguments)
    try:
        arms = json.loads(given.arms.read_text(encoding="utf-8"))["arms"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{given.arms}: {error!r}; give a JSON that analysis.bench.learning wrote", file=sys.stderr)
        return 2
    if given.lift and not gains(arms):
        print(f"--lift {given.lift}: no arm of {given.arms} has a lift; leave it out", file=sys.stderr)
        return 2
    for file, draw in ((given.curves, curves), (given.lift, lift)):
        if file is None:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(arms).savefig(file, dpi=110)
    return 0


def curves(arms: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the arms' reward (single steps pale), validation accuracy, guideline lengths and leaks over the steps."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    validation = panels[1]
    validation.set_title("accuracy on validation problems", fontsize=10)
    for number, arm in enumerate(arms):
        color = f"C{number}"
        steps = pd.DataFrame(arm["curve"])
        for panel, (name, title) in zip((panels[0], panels[2], panels[3]), CURVES.items(), strict=True):
            panel.set_title(title, fontsize=10)
            panel.plot(steps["step"], steps[name], color=color, alpha=0.25, linewidth=1)
            mean = steps[name].rolling(WINDOW, min_periods=1).mean()
            panel.plot(steps["step"], mean, color=color, label=arm["name"])
        validated = pd.DataFrame(arm["validation"]["accuracy"], columns=["step", "accuracy"])
        validation.plot(validated["step"], validated["accuracy"], color=color, marker="o")
    for panel in panels:
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    for panel in (panels[2], panels[3]):
        panel.set_xlabel("step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def gains(arms: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str, str]]:
    """Return the gains that were measured: their arm, their name, and what the trained planner is compared with."""
    return [(arm, name, said) for arm in arms for name, said in GAINS.items() if name in arm]


def lift(arms: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the trained planner's gains over others in points of accuracy, with 95% intervals."""
    figure = Figure(figsize=(9, 0.9 + 0.8 * len(arms)), layout="constrained")
    panel = figure.subplots()
    rows = gains(arms)
    for number, (arm, name, _) in enumerate(rows):
        gain = arm[name]
        panel.plot([gain["low"], gain["high"]], [number, number], color=f"C{arms.index(arm)}", linewidth=2)
        panel.plot(gain["points"], number, marker="o", color=f"C{arms.index(arm)}")
        panel.annotate(f"{gain['points']:+.1f}", (gain["points"], number), (0, 6), textcoords="offset points",
                       ha="center", fontsize=9)  # fmt: skip
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_yticks(range(len(rows)), [f"{arm['name']} over {said}" for arm, _, said in rows], fontsize=9)
    panel.set_ylim(len(rows) - 0.4, -0.7)
    panel.set_xlabel(f"points of accuracy on {rows[0][0]['problems']:,} problems that no step has seen", fontsize=9)
    panel.grid(axis="x", alpha=0.3)
    return figure


if __name__ == "__main__":
    sys.exit(main())
