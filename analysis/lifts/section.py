"""A run's recorded lift on its page: figures, and the guidelines that helped and harmed most."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd

from analysis.pages import page
from analysis.pages.tables import interval
from analysis.store.runs import Run, artifact, artifacts

FOLDER = "lift"
NONE = "none"
SHOWN = 10
"""How many helped and how many harmed problems are shown."""

LENGTH = 4000
"""How many characters of a model's text are shown."""


def lift_sections(run: Run) -> list[page.Section]:
    """Return a part for each set of problems that the run's lift was measured on; none if it was not."""
    files = [path for path in artifacts(run, FOLDER) if path.endswith(".json")] if FOLDER in artifacts(run) else []
    sections = []
    for path in sorted(files):
        found = json.loads(artifact(run, path).read_text(encoding="utf-8"))
        label = PurePath(path).stem
        sections.append(page.Section(f"Is a guideline worth anything? ({label})", figures(found)))
        rows_file = path.removesuffix(".json") + ".parquet"
        if rows_file in artifacts(run, FOLDER) and (pair := chosen(found["pairs"])):
            rows = pd.read_parquet(artifact(run, rows_file))
            for word, good in (("helped", True), ("harmed", False)):
                ids = pair[word]
                title = f"Guidelines that {word} ({label}): {min(SHOWN, len(ids))} of {len(ids)} problems"
                sections.append(page.Section(title, cards(rows, pair, ids[:SHOWN], good)))
    return sections


def figures(found: Mapping[str, Any]) -> list[str]:
    """Return the arms' accuracies and their paired differences as tables."""
    arms = pd.DataFrame(
        {
            "accuracy": [_interval(arm["accuracy"]) for arm in found["arms"]],
            "leaks": [arm["leaks"] for arm in found["arms"]],
            "same for several problems": [arm.get("repeated") for arm in found["arms"]],
            "guideline, tokens": [arm["guideline_tokens"] for arm in found["arms"]],
            "solution, tokens": [arm["solution_tokens"] for arm in found["arms"]],
        },
        index=pd.Index([f"{arm['solver']}, {arm['kind']}" for arm in found["arms"]], name="solver, guideline"),
    )
    pairs = pd.DataFrame(
        {
            "difference": [_interval(pair["paired"]["difference"], sign=True) for pair in found["pairs"]],
            "p": [pair["paired"]["p_value"] for pair in found["pairs"]],
            "helped": [len(pair["helped"]) for pair in found["pairs"]],
            "harmed": [len(pair["harmed"]) for pair in found["pairs"]],
        },
        index=pd.Index(
            [f"{pair['solver']}, {pair['better']} over {pair['base']}" for pair in found["pairs"]], name="guideline"
        ),
    )
    step = "" if found["checkpoint"] is None else f" The trained planner is that of step {found['checkpoint']}."
    return [
        page.table(arms, f"{found['problems']} problems; 95 % bootstrap intervals.{step}"),
        page.table(pairs, "On the same problems; p is of McNemar's exact test."),
    ]


def chosen(pairs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the comparison for the examples: the first solver's best guidelines against none; None without pairs."""
    against_none = [pair for pair in pairs if pair["solver"] == pairs[0]["solver"] and pair["base"] == NONE]
    return against_none[-1] if against_none else pairs[0] if pairs else None


def cards(rows: pd.DataFrame, pair: Mapping[str, Any], ids: Sequence[str], good: bool) -> list[str]:
    """Return a card for each problem: question, guideline, both solutions with their verdicts."""
    of_solver = rows[rows["solver"] == pair["solver"]]
    found: list[str] = []
    for problem_id in ids:
        same = of_solver[of_solver["problem_id"] == problem_id].sort_values("sample", kind="stable")
        before, after = same[same["kind"] == pair["base"]], same[same["kind"] == pair["better"]]
        # The first sample that shows the change, where one does.
        changed = (after["correct"].to_numpy() != before["correct"].to_numpy()).nonzero()[0]
        at = int(changed[0]) if len(changed) else 0
        base, better = before.iloc[at], after.iloc[at]
        sides = [
            (f"guideline, {pair['better']}", good, short(better["guideline"])),
            _solution(pair["better"], better),
            _solution(pair["base"], base),
        ]
        found.append(page.card(f"{better['question']} (gold: {better['gold']})", sides))
    return found


def _solution(kind: str, row: pd.Series[Any]) -> tuple[str, bool | None, str]:
    right = row["correct"] == 1
    which = "without guideline" if kind == NONE else f"with guideline, {kind}"
    return f"solution {which}: {'right' if right else 'wrong'}", bool(right), short(row["solution"])


def short(words: object) -> str:
    """Return a model's text, truncated if it is very long."""
    text = str(words)
    return text if len(text) <= LENGTH else text[:LENGTH] + " …"


def _interval(estimate: Mapping[str, float | None], sign: bool = False) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return "" if value is None or low is None or high is None else interval(value, low, high, sign)
