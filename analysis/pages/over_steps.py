"""The same validation problems at a run's first, middle and last validation: how the planner's guidelines changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from analysis.pages.page import card, changes
from analysis.store.runs import Run, rows

SHOWN = 5
"""Problems that are shown."""

COLUMNS = ["step", "problem_id", "question", "gold", "guideline", "rollout", "sample", "acc"]


def over_steps(run: Run) -> list[Markup]:
    """Return a card for each of some problems, with its guideline at each step; none before a second validation."""
    validated = rows(run, "validation", COLUMNS)
    validated = validated[(validated["rollout"] == 0) & (validated["sample"] == 0)]
    steps = chosen_steps(validated["step"].astype(int).tolist())
    if len(steps) < 2:
        return []
    by_step = validated[validated["step"].isin(steps)].set_index(["problem_id", "step"]).sort_index()
    return [_card(by_step.loc[problem]) for problem in chosen_problems(by_step["acc"].unstack("step"))]


def chosen_steps(steps: Sequence[int]) -> list[int]:
    """Return the first, the middle and the last of `steps`, which may repeat; all of them if there are two or fewer."""
    known = sorted(set(steps))
    return sorted({known[0], known[len(known) // 2], known[-1]}) if known else []


def chosen_problems(verdicts: pd.DataFrame) -> list[str]:
    """Return the problems to show, those whose verdict changed first.

    Args:
        verdicts: a row for each problem, a column for each step, in order; NaN where a step has no verdict.
    """
    known = verdicts.dropna()
    changed = known[known.columns[-1]] != known[known.columns[0]]
    return [*known.index[changed], *known.index[~changed]][:SHOWN]


def words_changed(before: str, after: str) -> list[tuple[str, str]]:
    """Return the words of both texts in order, as (`same`, `removed` or `added`, words)."""
    old, new = (re.findall(r"\S+\s*", text) for text in (before, after))
    found = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(new[k:m])))
            continue
        found += [(name, "".join(words)) for name, words in (("removed", old[i:j]), ("added", new[k:m])) if words]
    return found


def _card(steps: pd.DataFrame) -> Markup:
    """Return a problem's card; each guideline shows what changed since the step before it."""
    sides, before = [], None
    for step, row in steps.iterrows():
        guideline = str(row["guideline"])
        shown = guideline if before is None else changes(words_changed(before, guideline))
        sides.append((f"step {step}: {'right' if row['acc'] else 'wrong'}", bool(row["acc"]), shown))
        before = guideline
    first = steps.iloc[0]
    return card(f"{first['question']} (gold: {first['gold']})", sides)
