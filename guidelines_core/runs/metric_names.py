"""Two names of each metric, verl's and ours in the journal and the one that MLflow shows, and what it is.

MLflow sorts charts by name, so `metric_names.yaml` puts what is looked at into groups that come first. Metrics are
renamed where they enter MLflow and named back where they are read, and nowhere else. A run that was recorded before
has the journal's names in MLflow, which are read as they are. MLflow has no description of a metric, so a run's
description has the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

TABLE = Path(__file__).with_suffix(".yaml")


@cache
def shown(metric: str) -> str:
    """Return what MLflow calls a metric of the journal."""
    return _renamed(metric, ((recorded, shown) for shown, recorded in _table()))


@cache
def recorded(metric: str) -> str:
    """Return what the journal calls a metric of MLflow; a name that is the journal's already stays."""
    return _renamed(metric, _table())


def meanings() -> str:
    """Return a table in Markdown of the groups' metrics and what each one is."""
    rows = [
        f"| `{group}/{shown}` | {meaning} |"
        for group, names in _groups().items()
        for shown, (_, meaning) in names.items()
    ]
    return "\n".join(["| metric | what it is |", "|---|---|", *rows, ""])


@cache
def _groups() -> dict[str, dict[str, tuple[str, str]]]:
    """Return the groups: to each metric's shown name its recorded name and what it is."""
    read = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {
        group: {shown: (name, meaning) for shown, (name, meaning) in names.items()} for group, names in read.items()
    }


@cache
def _table() -> tuple[tuple[str, str], ...]:
    """Return the pairs of shown and recorded names, those without a * first."""
    pairs = [(f"{group}/{shown}", name) for group, names in _groups().items() for shown, (name, _) in names.items()]
    return tuple(sorted(pairs, key=lambda pair: "*" in pair[0]))


def _renamed(metric: str, pairs: Iterable[tuple[str, str]]) -> str:
    for pattern, name in pairs:
        before, star, after = pattern.partition("*")
        if metric == pattern and not star:
            return name
        if star and len(metric) > len(pattern) - 1 and metric.startswith(before) and metric.endswith(after):
            return name.replace("*", metric[len(before) : len(metric) - len(after)])
    return metric
