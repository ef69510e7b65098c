"""The page of `bottleneck.py`: pictures of a step, with the terminal's words and figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis.diagnosis import report
from analysis.diagnosis.findings import Diagnosis
from analysis.diagnosis.step_time import PHASES, in_flight
from analysis.pages import page as pages
from analysis.pages.page import COLOURS, Section
from guidelines_core.config import layout

PAINT = {
    "gen": COLOURS[0],
    "solver": COLOURS[1],
    "reward": COLOURS[1],
    "old_log_prob": COLOURS[2],
    "ref": COLOURS[3],
    "update_actor": COLOURS[4],
    "update_weights": COLOURS[5],
}
"""The color of each phase; the others are short and grey."""

GREY = "#8a8f98"
SHOWN = 200
"""Solver calls that are drawn one by one."""


def page(found: Diagnosis) -> str:
    """Return the whole page."""
    lead = f"{report.headline(found)} {found.source}"
    return pages.page(f"{found.name}: where the time goes", lead, sections(found))


def sections(found: Diagnosis) -> list[Section]:
    """Return the page's parts."""
    words = [*found.notes, *report.findings(found)]
    return [
        Section("What to change first", _changes(found)),
        Section("Who was busy when", [_timeline(found), pages.table(_gpus(found))]),
        Section("The phases", [pages.table(_phases(found), "x floor: times what the hardware's peak would take")]),
        Section("The solver's calls", _solver(found)),
        Section("The run", [*([_steps(found)] if len(found.steps) > 2 else []), *map(pages.text, words)]),
    ]


def _changes(found: Diagnosis) -> list[str]:
    if not found.changes:
        return [pages.text(report.change_lines(found)[0].plain)]
    parts = []
    for number, change in enumerate(found.changes[: report.TRIED], start=1):
        caveat = f" But: {change.caveat}." if change.caveat else ""
        share = change.saves / found.step.total
        parts.append(pages.text(f"{number}. Saves {change.saves:,.1f} s a step ({share:.0%}): {change.why}.{caveat}"))
        parts.append(pages.code(" ".join(change.overrides)))
    return [*parts, pages.text("Each is taken alone; together they save less than the sum.")]


def _phases(found: Diagnosis) -> pd.DataFrame:
    step = found.step
    floor = {name: found.floor.get(name) or 0.0 for name in step.seconds}
    table: pd.DataFrame = pd.DataFrame(
        {
            "what": [PHASES[name] for name in step.seconds],
            "s": [f"{seconds:,.1f}" for seconds in step.seconds.values()],
            "share": [f"{seconds / step.total:.0%}" for seconds in step.seconds.values()],
            "floor, s": [f"{seconds:,.2f}" if seconds else "" for seconds in floor.values()],
            "x floor": [f"{s / floor[name]:,.0f}" if floor[name] else "" for name, s in step.seconds.items()],
        },
        index=pd.Index(list(step.seconds), name="phase"),
    )
    return table


def _gpus(found: Diagnosis) -> pd.DataFrame:
    total = found.step.total
    table: pd.DataFrame = pd.DataFrame(
        {
            "busy, s": [f"{lane.busy:,.1f}" for lane in found.lanes],
            "idle, s": [f"{lane.idle(total) * total:,.1f}" for lane in found.lanes],
            "idle": [f"{lane.idle(total):.0%}" for lane in found.lanes],
        },
        index=pd.Index([lane.label for lane in found.lanes], name="GPUs"),
    )
    return table


def _timeline(found: Diagnosis) -> str:
    """Draw a lane for each GPU pool, colored by phase; gaps are idle time."""
    total, count = found.step.total, len(found.lanes)
    figure, (axes,) = pages.grid(1, height=1.1 + 0.62 * count, width=10.5)
    used: list[str] = []
    for row, lane in enumerate(found.lanes):
        axes.broken_barh([(0, total)], (row - 0.36, 0.72), facecolor="none", edgecolor=GREY, linewidth=0.6)
        for begin, end, phase in lane.bars:
            axes.broken_barh([(begin, end - begin)], (row - 0.36, 0.72), facecolor=PAINT.get(phase, GREY))
            if phase not in used:
                used.append(phase)
        axes.text(total * 1.01, row, f"idle {lane.idle(total):.0%}", va="center", color=_ink(axes))
    axes.set(xlim=(0, total * 1.1), ylim=(count - 0.4, -0.6), xlabel="s from the step's begin")
    axes.set_yticks(range(count), [lane.label for lane in found.lanes])
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    names = {"gen": "guidelines", "solver": "solutions", **{name: PHASES[name] for name in PHASES if name != "gen"}}
    handles = [Patch(facecolor=PAINT.get(phase, GREY), label=names[phase]) for phase in used]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False, labelcolor=_ink(axes))
    number = f"Step {found.step.number}" if found.step.number else "A step"
    return pages.plot(figure, f"{number}: what each GPU pool did, in seconds from the step's begin; empty means idle")


def _solver(found: Diagnosis) -> list[str]:
    """Draw a step's solver calls and their number at once, and list the slowest of the run."""
    parts: list[str] = []
    calls = found.step.calls
    if calls is not None:
        figure, (each, many) = pages.grid(2, columns=2, height=2.9, width=5.2)
        cut = calls["truncated"].fillna(0.0) > 0
        shown = calls.head(SHOWN)
        ended = "ended by itself" if calls["truncated"].notna().all() else ""
        for colour, chosen, name in ((COLOURS[0], ~cut, ended), (COLOURS[1], cut, "cut at its limit")):
            some = shown[chosen.loc[shown.index]]
            if len(some):
                each.hlines(some.index, some["asked"], some["answered"], color=colour, linewidth=1.5, label=name)
        each.set(xlabel="s from the step's begin", ylabel="solver call", title="from question to answer")
        for axes in (each, many):
            axes.yaxis.get_major_locator().set_params(integer=True)
        pages.legend(figure, each)
        moments, number = in_flight(calls)
        limit = layout.requests_in_flight(found.config)
        many.step(np.r_[0, moments], np.r_[0, np.minimum(number, limit)], where="post", color=COLOURS[0])
        many.set(xlabel="s from the step's begin", ylabel="calls under way", title="calls under way at once", ylim=0)
        parts.append(pages.plot(figure, "The solver's calls of the step, each as a line, and how many were under way"))
    if found.slow:
        table = found.slow.calls.head(10)
        rows = pd.DataFrame(
            {
                "s": table["solver_s"].map("{:,.1f}".format),
                "tokens": table["solution_tokens"].astype(int),
                "cut": np.where(table["solution_truncated"] > 0, "yes", "no"),
                "question": table["question"].astype(str).str.slice(0, 100),
            }
        ).set_index(pd.Index(table["step"].astype(int), name="step"))
        parts.append(pages.table(rows, f"The slowest 1 % of the run's {found.slow.of:,} solver calls (ten at most)"))
    elif layout.solver_in_turns(found.config):
        parts.append(pages.text("The solver takes turns with the trainer on its GPUs."))
    return parts


def _steps(found: Diagnosis) -> str:
    figure, (axes,) = pages.grid(1, height=2.4, width=8.0)
    axes.plot(found.steps.index, found.steps.to_numpy(), color=COLOURS[0], marker="." if len(found.steps) < 40 else "")
    axes.axhline(found.step.total, color=COLOURS[1], linestyle="--", label=f"step {found.step.number}, the median")
    axes.set(xlabel="step", ylabel="s", ylim=0)
    pages.legend(figure, axes)
    return pages.plot(figure, "Seconds of every step")


def _ink(axes: Axes) -> str:
    """Return the color that the page replaces by its text color."""
    return str(axes.xaxis.label.get_color())
