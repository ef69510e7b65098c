"""Maps each metric's name in the journal to its name in MLflow, and describes it.

MLflow sorts charts by name, so `metric_names.yaml` assigns the important metrics to groups whose names sort first.
Metrics are renamed when they are written to MLflow and named back when they are read from it. Older runs have the
journal's names in MLflow; these are read unchanged. MLflow has no descriptions of metrics, so the description of a run
has a table of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

TABLE = Path(__file__).with_suffix(".yaml")


@cache
def shown(metric: str) -> str:
    """Return the name in MLflow of a metric of the journal."""
    return _renamed(metric, ((recorded, shown) for shown, recorded in _table()))


@cache
def recorded(metric: str) -> str:
    """Return the journal's name of a metric in MLflow; a name of the journal is returned unchanged."""
    return _renamed(metric, _table())


def meanings() -> str:
    """Return a Markdown table of the groups' metrics with their descriptions."""
    rows = [
        f"| `{group}/{shown}` | {meaning} |"
        for group, names in _groups().items()
        for shown, (_, meaning) in names.items()
    ]
    return "\n".join(["| metric | what it is |", "|---|---|", *rows, ""])


@cache
def _groups() -> dict[str, dict[str, tuple[str, str]]]:
    """Return the groups: for each metric, by its name in MLflow, the journal's name and the description."""
    read = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {
        group: {shown: (name, meaning) for shown, (name, meaning) in names.items()} for group, names in read.items()
    }


@cache
def _table() -> tuple[tuple[str, str], ...]:
    """Return the pairs of MLflow's and the journal's names, those without a * first."""
    pairs = [(f"{group}/{shown}", name) for group, names in _groups().items() for shown, (name, _) in names.items()]
    return tuple(sorted(pairs, key=lambda pair: "*" in pair[0]))


def _renamed(metric: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return the second name of the first pair whose first name matches `metric`; without a match, `metric`."""
    for pattern, name in pairs:
        before, star, after = pattern.partition("*")
        if metric == pattern and not star:
            return name
        if star and len(metric) > len(pattern) - 1 and metric.startswith(before) and metric.endswith(after):
            return name.replace("*", metric[len(before) : len(metric) - len(after)])
    return metric
