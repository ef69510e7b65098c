"""A run's own record of its steps: `logs/attempt-N.jsonl`, written by verl's file logger, one for each attempt.

It is written before anything is sent to MLflow and needs no network, so it is what a run's history is read from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidelines_core.json_lines import GrowingFile

LOGGED_AT = "training/logged_at"
"""The metric that tells when an entry was written, in seconds since 1970; it becomes the MLflow metrics' time."""

STEP = "training/global_step"
"""A metric of every trained step, and of nothing else that is logged."""

STOP_FILE = "GUIDELINES_STOP_FILE"
"""The environment variable that names a run's stop file. When that file appears, the run saves and stops."""


@dataclass(frozen=True)
class Entry:
    """One line of a journal.

    Attributes:
        step: the step that it is about.
        metrics: their values by name; what JSON has no number for is NaN.
        logged_at: seconds since 1970, None if it was not noted.
    """

    step: int
    metrics: dict[str, float]
    logged_at: float | None


class Journal(GrowingFile):
    """One attempt's journal: lines `{"step": int, "data": {metric: value}}`."""

    def entries(self) -> list[Entry]:
        """Return the entries that were written since the last call."""
        return [as_entry(line) for line in self.new()]


def attempts(directory: Path) -> list[Path]:
    """Return the journals of the run that owns `directory`, in the order of its attempts."""
    journals = (directory / "logs").glob("attempt-*.jsonl")
    return sorted(journals, key=lambda path: int(re.sub(r"\D", "", path.stem)))


def history(journals: Iterable[Sequence[Entry]]) -> list[Entry]:
    """Return what counts of the attempts' entries: the first step that an attempt trains cuts off those before it."""
    kept: list[Entry] = []
    for entries in journals:
        trained = [entry.step for entry in entries if STEP in entry.metrics]
        if trained:
            kept = [entry for entry in kept if entry.step < trained[0]]
        kept.extend(entries)
    return kept


def sanitized(metric: str) -> str:
    """Return a metric's name as MLflow takes it, by the rule of verl's own logger (`utils/tracking.py`)."""
    return re.sub(r"[^/\w.\- :]", "_", re.sub(r"/+", "/", metric.replace("@", "_at_")))


def as_entry(line: dict[str, Any]) -> Entry:
    """Return a journal's line with its metrics as MLflow takes them."""
    data = {name: math.nan if value is None else value for name, value in line["data"].items()}
    metrics = {sanitized(name): float(value) for name, value in data.items() if isinstance(value, (int, float))}
    return Entry(line["step"], metrics, metrics.pop(LOGGED_AT, None))
