"""The page of `lift.py`: accuracies and differences with their intervals, and examples to read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.lifts import report
from analysis.lifts.arms import KINDS
from analysis.lifts.report import EXAMPLES, Result
from analysis.lifts.stats import Pair, examples
from analysis.pages import page as pages
from analysis.pages.page import COLOURS, Section

PAINT = dict(zip(KINDS, (COLOURS[5], COLOURS[4], COLOURS[0]), strict=True))
"""The color of each kind of guideline."""


def page(results: list[Result]) -> str:
    """Return the whole page, a part for each set of problems."""
    sections = []
    for result in results:
        found, name = result.found, result.problems.label
        sections.append(
            Section(
                f"{name}: is a guideline worth anything?",
                [*map(pages.text, report.conclusions(result))] + [_picture(result)] * bool(found.problems),
            )
        )
        sections.append(Section(f"{name}: figures", [*_tables(result), *map(pages.text, report.notes(result))]))
        for pair in found.pairs:
            sections.append(Section(f"{name}: {report.described(pair)} ({pair.solver})", _examples(result, pair)))
    first = results[0]
    step = "no checkpoint" if first.step is None else f"the planner of step {first.step}"
    return pages.page(f"{first.run}: what its guidelines are worth", f"run {first.run_id}, {step}", sections)


def _picture(result: Result) -> str:
    """Draw each arm's accuracy and each difference with its interval."""
    arms, pairs = result.found.arms, result.found.pairs
    several = len({arm.solver for arm in arms}) > 1
    height = 1.1 + 0.34 * max(len(arms), len(pairs))
    figure, (left, right) = pages.grid(2, columns=2, height=height, width=5.4)
    for row, arm in enumerate(arms):
        spread = 100 * np.array([[arm.accuracy.value - arm.accuracy.low], [arm.accuracy.high - arm.accuracy.value]])
        left.errorbar(100 * arm.accuracy.value, row, xerr=spread, fmt="o", color=PAINT[arm.kind], capsize=3)
    left.set_yticks(range(len(arms)), [f"{arm.solver}: {arm.kind}" if several else arm.kind for arm in arms])
    left.set(xlabel="right, %", title="accuracy by guideline", ylim=(len(arms) - 0.4, -0.6))
    for row, pair in enumerate(pairs):
        found = pair.paired.difference
        spread = 100 * np.array([[found.value - found.low], [found.high - found.value]])
        right.errorbar(100 * found.value, row, xerr=spread, fmt="o", color=PAINT[pair.better], capsize=3)
    names = [f"{pair.better} over {pair.base}" for pair in pairs]
    right.set_yticks(
        range(len(pairs)), [f"{p.solver}: {n}" if several else n for p, n in zip(pairs, names, strict=True)]
    )
    right.axvline(0, color=right.xaxis.label.get_color(), linewidth=0.8)
    right.set(xlabel="points", title="difference on the same problems", ylim=(len(pairs) - 0.4, -0.6))
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
    return pages.plot(figure, "Accuracy of each arm and the paired differences, with 95 % intervals")


def _tables(result: Result) -> list[str]:
    found = result.found
    ks = sorted({k for arm in found.arms for k in arm.pass_at} - {1})
    columns = [
        "guideline",
        "accuracy, %",
        *(f"pass@{k}" for k in ks),
        "leaks, %",
        "without leaks, %",
        "same, %",
        "tokens",
        "cut, %",
    ]
    arms = [report.arm_cells(arm, ks) for arm in found.arms]
    pairs = [report.pair_cells(pair) for pair in found.pairs]
    return [
        pages.table(
            _frame(arms, columns),
            "same: guidelines of several problems; tokens: of guideline and solution; cut: solutions at their limit",
        ),
        pages.table(_frame(pairs, ["guideline", *report.PAIR_COLUMNS]), "p: McNemar's exact test"),
    ]


def _frame(rows: list[list[str]], columns: list[str]) -> pd.DataFrame:
    """Return a table of texts whose first cells, the solvers, are the index."""
    index = pd.Index([row[0] for row in rows], name="solver")
    table: pd.DataFrame = pd.DataFrame([row[1:] for row in rows], columns=columns, index=index)
    return table


def _examples(result: Result, pair: Pair) -> list[str]:
    parts: list[str] = []
    for word, good, ids in (("Helped", True, pair.helped), ("Harmed", False, pair.harmed)):
        parts.append(pages.heading(f"{word}: {len(ids)} problems", good))
        for example in examples(result.rows, pair, ids, EXAMPLES):
            texts = [(name, None, text) for name, text in example.items() if name not in report.ASKED]
            parts.append(pages.card(f"{example['question']} (gold: {example['gold']})", texts))
    return parts
