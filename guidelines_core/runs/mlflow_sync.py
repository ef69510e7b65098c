"""Copies a run's records from its own directory into its MLflow run as soon as the store accepts them.

Training writes journal and graded rows to the disk and never waits for MLflow; a thread of `run.py` copies them. What
an unreachable store misses is copied later: by the same run, by its next attempt, or by `python -m
guidelines_core.runs.replay`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from guidelines_core.runs.alarms import Alarm, AlarmLog, Limits
from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.journal import Entry, Journal, attempts, history
from guidelines_core.runs.metric_names import shown
from guidelines_core.runs.trace_sync import TraceCopier
from guidelines_core.runs.tracking import Run

BATCH = 1000
"""MLflow's limit of metrics in one request."""

COPIED = ".copied.json"
"""The file that lists the copied files of rows by name, each with its size and time at that moment."""

SHOWN_STEPS, SHOWN_ROWS = 20, 8
"""How many rows of how many of the last steps the tables on MLflow's page show; the rows' files have all."""

SHOWN = ["step", "question", "guideline", "solution", "gold", "reason", "score"]

# The journal keeps what a store misses, so requests fail fast; MLflow's own retries take minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

ALARMS, ALARM = "guidelines.alarms", "guidelines.alarm"
"""The tag that names a run's alarms, and the beginning of those that say when each was raised and why."""

log = logging.getLogger(__name__)
# It prints a traceback for each try; the recorder reports once that the store is unreachable, and why.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

Held = dict[str, dict[int, set[float]]]
"""The store's values by metric and step, in the form of `_comparable`."""


class Recorder:
    """Copies one run's records; `start` does so from a thread until `stop`."""

    def __init__(self, run: Run) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self._run = run
        self._client = MlflowClient(run.claim.tracking_uri)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._copy_until_over, name="recorder", daemon=True)
        self._journals: list[Journal] = []
        self._waiting: list[Entry] = []
        self._held: Held | None = None
        section = recorded_section(run.directory)
        self._limits: Limits = section.get("alarms", {}).get("limits", {})
        self._traces = TraceCopier(run, section)
        self._alarms = AlarmLog(self._limits)
        self._tagged: dict[str, str] | None = None
        self.failure: str | None = None

    def start(self) -> None:
        """Start the copying thread."""
        self._thread.start()

    def stop(self, seconds: float = 30.0) -> None:
        """Copy the rest and end; `failure` then says why the store did not accept everything, if so."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self.failure = self.failure or f"it did not answer for {seconds:.0f} s"

    def copy(self) -> bool:
        """Copy what is new and return whether the store accepted all of it; the rest is copied by the next call."""
        try:
            self._copy_metrics()
            self._copy_alarms()
            copy_rows(self._client, self._run)
            self._traces.copy(self._client)
        except Exception as error:  # MLflow's stores raise the errors of their network or database
            # It may have accepted a part: read its values again before the next try.
            self._held = None
            self._say(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}")
            return False
        self._say(None)
        return True

    def _copy_until_over(self) -> None:
        pause = 1.0
        while not self._over.wait(pause):
            pause = 1.0 if self.copy() else min(2 * pause, 30.0)
        self.copy()

    def _say(self, failure: str | None) -> None:
        if failure and not self.failure:
            log.warning(
                "MLflow does not take the records (%s): they are kept in %s and copied when it is back",
                failure,
                self._run.directory / "logs",
            )
        elif self.failure and not failure:
            log.warning("MLflow takes records again: all that was kept is copied")
        self.failure = failure

    def _copy_metrics(self) -> None:
        self._take_new_entries()
        if not self._waiting:
            return
        run_id = self._run.claim.run_id
        if self._held is None:
            self._held = held(self._client, run_id)
        missing = missing_metrics(self._waiting, self._held)
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            self._client.log_batch(run_id, metrics=batch, synchronous=True)
            for metric in batch:
                self._held[metric.key][metric.step].add(_comparable(metric.value))
        self._waiting = []

    def _copy_alarms(self) -> None:
        if not self._limits or not self._alarms.steps:
            return
        tags = alarm_tags(self._alarms.alarms)
        for name, text in tags.items():
            if self._tagged is None or self._tagged.get(name) != text:
                self._client.set_tag(self._run.claim.run_id, name, text)
        self._tagged = tags

    def _take_new_entries(self) -> None:
        """Read the new entries of all journals; only the newest one grows."""
        known = {journal.path for journal in self._journals}
        new = [Journal(path) for path in attempts(self._run.directory) if path not in known]
        if not self._journals:
            entries = history(journal.entries() for journal in new)
        else:
            entries = [entry for journal in (*self._journals, *new) for entry in journal.entries()]
        self._waiting += entries
        for entry in entries:
            self._alarms.take(entry)
        self._journals += new


def recorded_section(directory: Path) -> dict[str, Any]:
    """Return the section `guidelines` of the last attempt of the run that owns `directory`; empty if there is none.

    A run that was started before there were alarms or traces has no keys of these.
    """
    configs = [path.with_suffix(".yaml") for path in attempts(directory)]
    if not configs or not configs[-1].exists():
        return {}
    return dict(yaml.load(configs[-1].read_text(encoding="utf-8"), yaml.CSafeLoader)["guidelines"])


def alarm_tags(alarms: Sequence[Alarm]) -> dict[str, str]:
    """Return a run's tags about its alarms: their names, and each one's steps and words."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for alarm in alarms:
        by_name[alarm.name].append(str(alarm).removeprefix(f"{alarm.name}, "))
    each = {f"{ALARM}.{name}": "; ".join(said)[:5000] for name, said in by_name.items()}
    return {ALARMS: ", ".join(by_name) or "none", **each}


def held(client: MlflowClient, run_id: str) -> Held:
    """Return the store's values of a run's metrics."""
    values: Held = defaultdict(lambda: defaultdict(set))
    for key in client.get_run(run_id).data.metrics:
        for metric in client.get_metric_history(run_id, key):
            values[key][metric.step].add(_comparable(metric.value))
    return values


def missing_metrics(entries: Iterable[Entry], held: Held) -> list[Metric]:
    """Return the metrics of `entries` that are not among `held`.

    A step with another value was trained again after a resume: its new value is missing too, and is added after the
    old one.
    """
    missing = []
    for entry in entries:
        milliseconds = int(1000 * (time.time() if entry.logged_at is None else entry.logged_at))
        for key, value in ((shown(name), value) for name, value in entry.metrics.items()):
            if _comparable(value) not in held.get(key, {}).get(entry.step, ()):
                missing.append(Metric(key, value, milliseconds, entry.step))
    return missing


def _comparable(value: float) -> float:
    """Return a value that compares equal also for NaN; no metric of a journal is infinite."""
    return math.inf if math.isnan(value) else value


def copy_rows(client: MlflowClient, run: Run) -> None:
    """Copy the files of graded rows that the store lacks or has in an older version, and the tables of rows."""
    folder, run_id = run.directory / "rows", run.claim.run_id
    copied_file = folder / COPIED
    copied: dict[str, list[int]] = json.loads(copied_file.read_text()) if copied_file.exists() else {}
    newest: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.parquet")):
        stands = [file.stat().st_size, file.stat().st_mtime_ns]
        newest[file.name.split("_")[0]] = stands
        if copied.get(file.name) != stands:
            client.log_artifact(run_id, str(file), "rows")
            copied[file.name] = stands
            write_atomically(copied_file, json.dumps(copied))
    for kind, stands in newest.items():
        table = f"{kind}_rows.json"
        if copied.get(table) != stands:
            _copy_table(client, run_id, sorted(folder.glob(f"{kind}_*.parquet"))[-SHOWN_STEPS:], table)
            copied[table] = stands
            write_atomically(copied_file, json.dumps(copied))


def _copy_table(client: MlflowClient, run_id: str, files: list[Path], name: str) -> None:
    """Write a new table of rows; MLflow's `log_table` would append the rows of a step that is trained again."""
    rows = pd.concat([_first_solutions(file)[SHOWN].head(SHOWN_ROWS) for file in files])
    client.log_text(run_id, rows.astype({"step": int}).to_json(orient="split", index=False), name)
    shown: list[dict[str, str]] = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    table = {"path": name, "type": "table"}
    if table not in shown:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*shown, table]))


def _first_solutions(file: Path) -> pd.DataFrame:
    """Return a step's rows with the first solution to each guideline."""
    rows = pd.read_parquet(file)
    return rows[rows["sample"] == 0] if "sample" in rows else rows
