"""The record of a step: its metrics and cost go to the journal, then its checkpoint is written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guidelines_core.runs.cost import Meter
from guidelines_core.runs.journal import LOGGED_AT, STOP_FILE


class LogThenSave:
    """verl's `Tracking`, after whose record of a step the step's checkpoint is written."""

    def __init__(self, tracking: Any, save_due: Callable[[bool], dict[str, float]], total: int, meter: Meter) -> None:
        self._tracking = tracking
        self._save_due = save_due
        self._total = total
        self._meter = meter
        self._end: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracking, name)

    def end_with(self, error: Exception) -> None:
        """Raise `error` once the step under way is recorded and saved."""
        self._end = error

    def log(self, data: dict[str, Any], step: int) -> None:
        """Record a step's metrics, then save its checkpoint, then record how long that took."""
        data.pop("timing_s/save_checkpoint", None)
        now = time.time()
        graded = data.get("reward/graded")
        cost = self._meter.total(now) if graded is None else self._meter.step(now, graded)
        self._tracking.log(data={**data, **cost, LOGGED_AT: now}, step=step)
        if saved := self._save_due(stop_asked() or self._end is not None):
            now = time.time()
            self._tracking.log(data={**saved, **self._meter.total(now), LOGGED_AT: now}, step=step)
        if self._end is not None:
            raise self._end
        if stop_asked() and step < self._total:
            raise StopAsked(f"asked to stop: saved after step {step}")


class StopAsked(RuntimeError):
    """The run was asked to stop, and its last step is saved."""


def stop_asked() -> bool:
    """Say whether the run was asked to save and stop."""
    return Path(os.environ[STOP_FILE]).exists()
