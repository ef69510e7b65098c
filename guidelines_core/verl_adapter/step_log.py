"""The record of a step: its metrics and cost go to the journal, then its checkpoint is written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.runs.alarms import AlarmLog
from guidelines_core.runs.cost import Meter
from guidelines_core.runs.journal import LOGGED_AT, STOP_FILE, Journal, as_entry, attempts, history


class StopRules:
    """The alarms that end a run.

    Args:
        log: what is known of the run's steps so far.
        stop_on: the names of the rules whose alarm ends it.
    """

    def __init__(self, log: AlarmLog, stop_on: list[str]) -> None:
        self._log, self._stop_on = log, stop_on

    def ended_by(self, data: dict[str, Any], step: int) -> AlarmRaisedError | None:
        """Take a step's metrics and return why the run is to end after it, None if it goes on."""
        numbers = {name: float(value) for name, value in data.items() if isinstance(value, Real)}
        alarms = self._log.take(as_entry({"step": step, "data": numbers}))
        ending = [str(alarm) for alarm in alarms if alarm.name in self._stop_on]
        return AlarmRaisedError(f"guidelines.alarms.stop_on: {'; '.join(ending)}") if ending else None


def stop_rules(config: DictConfig) -> StopRules | None:
    """Return what ends a run by an alarm, with what its earlier attempts have recorded; None if no alarm ends it."""
    alarms = config.guidelines.alarms
    if not alarms.stop_on:
        return None
    journals = attempts(Path(config.trainer.default_local_dir))
    earlier = history(Journal(path).entries() for path in journals)
    return StopRules(AlarmLog(OmegaConf.to_container(alarms.limits), earlier), list(alarms.stop_on))  # type: ignore[arg-type]


class LogThenSave:
    """verl's `Tracking`, which writes a step's checkpoint after its record."""

    def __init__(
        self,
        tracking: Any,
        save_due: Callable[[bool], dict[str, float]],
        total: int,
        meter: Meter,
        rules: StopRules | None = None,
    ) -> None:
        self._tracking = tracking
        self._save_due = save_due
        self._total = total
        self._meter = meter
        self._rules = rules
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
        if self._rules is not None and step < self._total and (alarm := self._rules.ended_by(data, step)):
            self._end = self._end or alarm
        if saved := self._save_due(stop_asked() or self._end is not None):
            now = time.time()
            self._tracking.log(data={**saved, **self._meter.total(now), LOGGED_AT: now}, step=step)
        if self._end is not None:
            raise self._end
        if stop_asked() and step < self._total:
            raise StopAsked(f"asked to stop: saved after step {step}")


class AlarmRaisedError(RuntimeError):
    """An alarm that ends the run was raised, and its step is saved."""


class StopAsked(RuntimeError):
    """The run was asked to stop, and its last step is saved."""


def stop_asked() -> bool:
    """Return whether the run was asked to save and stop."""
    return Path(os.environ[STOP_FILE]).exists()
