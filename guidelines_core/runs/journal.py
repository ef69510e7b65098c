"""A run's journal of its steps: `logs/attempt-N.jsonl`, one for each attempt, written by verl's file logger.

It is written before anything is sent to MLflow and needs no network, so a run's history is read from it.
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
"""The metric of an entry's time, in seconds since 1970, which becomes the time of the MLflow metrics."""

STEP = "training/global_step"
"""A metric that only entries of trained steps have."""

STOP_FILE = "GUIDELINES_STOP_FILE"
"""The environment variable that names a run's stop file. When that file appears, the run saves and stops."""


@dataclass(frozen=True)
class Entry:
    """One line of a journal.

    Attributes:
        step: the step.
        metrics: values by name; null is NaN.
        logged_at: seconds since 1970, None if it was not recorded.
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
    """Return all attempts' entries without the steps that a later attempt trained again."""
    kept: list[Entry] = []
    for entries in journals:
        trained = [entry.step for entry in entries if STEP in entry.metrics]
        if trained:
            kept = [entry for entry in kept if entry.step < trained[0]]
        kept.extend(entries)
    return kept


def sanitized(metric: str) -> str:
    """Return a metric's name in the form that MLflow accepts, as verl's own logger does (`utils/tracking.py`)."""
    return re.sub(r"[^/\w.\- :]", "_", re.sub(r"/+", "/", metric.replace("@", "_at_")))


def as_entry(line: dict[str, Any]) -> Entry:
    """Return the entry of a journal's line, with the metrics that MLflow accepts."""
    data = {name: math.nan if value is None else value for name, value in line["data"].items()}
    metrics = {sanitized(name): float(value) for name, value in data.items() if isinstance(value, (int, float))}
    return Entry(line["step"], metrics, metrics.pop(LOGGED_AT, None))
