"""Copies a run's records from its own directory into its MLflow run as soon as the store accepts them.

Training writes the journal and the graded rows to disk and never waits for MLflow; a thread of `run.py` copies them.
Records that an unreachable store lacks are copied later: by the same run, by its next attempt, or by `python -m
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
from guidelines_core.runs.journal import STEP, Entry, Journal, attempts, history
from guidelines_core.runs.metric_names import shown
from guidelines_core.runs.trace_sync import TraceCopier
from guidelines_core.runs.tracking import Run

BATCH = 1000
"""MLflow's limit of metrics in one request."""

COPIED_FILE = ".copied.json"
"""The file that lists the copied files of rows by name, each with its size and time when it was copied."""

TABLE_STEPS, TABLE_ROWS = 20, 8
"""Size of the tables on MLflow's page: the last steps, and rows of each; the files of rows have all of them."""

TABLE_COLUMNS = ["step", "question", "guideline", "solution", "gold", "reason", "score"]

# Requests fail fast, since the journal keeps the records; MLflow's default retries take minutes.
REQUEST_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

ALARMS, ALARM = "guidelines.alarms", "guidelines.alarm"
"""The tag that lists a run's alarms, and the prefix of the tags with each alarm's steps and sentence."""

log = logging.getLogger(__name__)
# MLflow prints a traceback for each try; the recorder logs once that the store is unreachable, and why.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

StoredValues = dict[str, dict[int, set[float]]]
"""The store's values by metric and step, each made comparable by `_comparable`."""


class Recorder:
    """Copies one run's records, from a thread between `start` and `stop`.

    Attributes:
        failure: why the store did not accept the last copy; None if it did.
    """

    def __init__(self, run: Run) -> None:
        for name, value in REQUEST_LIMITS.items():
            os.environ.setdefault(name, value)
        self._run = run
        self._client = MlflowClient(run.claim.tracking_uri)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._copy_until_stopped, name="recorder", daemon=True)
        self._journals: list[Journal] = []
        self._uncopied: list[Entry] = []
        self._stored: StoredValues | None = None
        self._has_sent = False
        section = guidelines_section(run.directory)
        self._limits: Limits = section.get("alarms", {}).get("limits", {})
        self._traces = TraceCopier(run, section)
        self._alarms = AlarmLog(self._limits)
        self._tagged: dict[str, str] | None = None
        self.failure: str | None = None

    def start(self) -> None:
        """Start the copying thread."""
        self._thread.start()

    def stop(self, seconds: float = 30.0) -> None:
        """Copy the rest, waiting at most `seconds`; afterwards `failure` has the reason if the store lacks records."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self.failure = self.failure or f"it did not answer for {seconds:.0f} s"

    def copy(self) -> bool:
        """Copy new records; return whether the store accepted all of them. The next call copies the rest."""
        try:
            self._copy_metrics()
            self._copy_alarms()
            copy_rows(self._client, self._run)
            self._traces.copy(self._client)
        except Exception as error:  # MLflow's stores raise the errors of their network or database
            # The store may have accepted a part: read its values again before the next try.
            self._stored = None
            self._set_failure(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}")
            return False
        self._set_failure(None)
        return True

    def _copy_until_stopped(self) -> None:
        pause = 1.0
        while not self._stopped.wait(pause):
            pause = 1.0 if self.copy() else min(2 * pause, 30.0)
        self.copy()

    def _set_failure(self, failure: str | None) -> None:
        if failure and not self.failure:
            log.warning(
                "MLflow does not accept the records (%s): they are kept in %s and copied when it does",
                failure,
                self._run.directory / "logs",
            )
        elif self.failure and not failure:
            log.warning("MLflow accepts records again: all of them are copied")
        self.failure = failure

    def _copy_metrics(self) -> None:
        self._read_new_entries()
        if not self._uncopied or self._starting():
            return
        run_id = self._run.claim.run_id
        if self._stored is None:
            self._stored = store_values(self._client, run_id)
        missing = missing_metrics(self._uncopied, self._stored)
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            self._client.log_batch(run_id, metrics=batch, synchronous=True)
            for metric in batch:
                self._stored[metric.key][metric.step].add(_comparable(metric.value))
        self._uncopied, self._has_sent = [], True

    def _starting(self) -> bool:
        """Return whether what the start recorded waits for the first step.

        MLflow's page of a run lists metrics in the order in which they first came, so those of the first step are sent
        together with the start's, sorted by name.
        """
        follows = self._thread.is_alive() and not self._stopped.is_set()
        return follows and not self._has_sent and not any(STEP in entry.metrics for entry in self._uncopied)

    def _copy_alarms(self) -> None:
        if not self._limits or not self._alarms.steps:
            return
        tags = alarm_tags(self._alarms.alarms)
        for name, text in tags.items():
            if self._tagged is None or self._tagged.get(name) != text:
                self._client.set_tag(self._run.claim.run_id, name, text)
        self._tagged = tags

    def _read_new_entries(self) -> None:
        """Read the new entries of all journals."""
        known = {journal.path for journal in self._journals}
        new = [Journal(path) for path in attempts(self._run.directory) if path not in known]
        if not self._journals:
            entries = history(journal.entries() for journal in new)
        else:
            entries = [entry for journal in (*self._journals, *new) for entry in journal.entries()]
        self._uncopied += entries
        for entry in entries:
            self._alarms.take(entry)
        self._journals += new


def guidelines_section(directory: Path) -> dict[str, Any]:
    """Return the section `guidelines` of the last attempt of the run that owns `directory`; empty if there is none.

    The keys of alarms and traces are absent in runs from before these existed.
    """
    configs = [path.with_suffix(".yaml") for path in attempts(directory)]
    if not configs or not configs[-1].exists():
        return {}
    return dict(yaml.load(configs[-1].read_text(encoding="utf-8"), yaml.CSafeLoader)["guidelines"])


def alarm_tags(alarms: Sequence[Alarm]) -> dict[str, str]:
    """Return a run's tags about its alarms: their names, and the steps and the sentence of each."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for alarm in alarms:
        by_name[alarm.name].append(str(alarm).removeprefix(f"{alarm.name}, "))
    each = {f"{ALARM}.{name}": "; ".join(texts)[:5000] for name, texts in by_name.items()}
    return {ALARMS: ", ".join(by_name) or "none", **each}


def store_values(client: MlflowClient, run_id: str) -> StoredValues:
    """Return the values of a run's metrics in the store."""
    values: StoredValues = defaultdict(lambda: defaultdict(set))
    for key in client.get_run(run_id).data.metrics:
        for metric in client.get_metric_history(run_id, key):
            values[key][metric.step].add(_comparable(metric.value))
    return values


def missing_metrics(entries: Iterable[Entry], stored: StoredValues) -> list[Metric]:
    """Return the metrics of `entries` whose values are not among `stored`.

    They are sorted by name. A step that was trained again after a resume has a new value, which is among them; MLflow
    then has both.
    """
    missing = []
    for entry in entries:
        milliseconds = int(1000 * (time.time() if entry.logged_at is None else entry.logged_at))
        for key, value in ((shown(name), value) for name, value in entry.metrics.items()):
            if _comparable(value) not in stored.get(key, {}).get(entry.step, ()):
                missing.append(Metric(key, value, milliseconds, entry.step))
    return sorted(missing, key=lambda metric: metric.key)


def _comparable(value: float) -> float:
    """Return `value`, with infinity in place of NaN, which equals nothing; no metric of a journal is infinite."""
    return math.inf if math.isnan(value) else value


def copy_rows(client: MlflowClient, run: Run) -> None:
    """Copy the files of graded rows that are new or changed since they were copied, and the tables of rows."""
    folder, run_id = run.directory / "rows", run.claim.run_id
    copied_file = folder / COPIED_FILE
    copied: dict[str, list[int]] = json.loads(copied_file.read_text()) if copied_file.exists() else {}
    newest: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.parquet")):
        version = [file.stat().st_size, file.stat().st_mtime_ns]
        newest[file.name.split("_")[0]] = version
        if copied.get(file.name) != version:
            client.log_artifact(run_id, str(file), "rows")
            copied[file.name] = version
            write_atomically(copied_file, json.dumps(copied))
    for kind, version in newest.items():
        table = f"{kind}_rows.json"
        if copied.get(table) != version:
            _copy_table(client, run_id, sorted(folder.glob(f"{kind}_*.parquet"))[-TABLE_STEPS:], table)
            copied[table] = version
            write_atomically(copied_file, json.dumps(copied))


def _copy_table(client: MlflowClient, run_id: str, files: list[Path], name: str) -> None:
    """Replace a table of rows; MLflow's `log_table` would append the rows of a step that is trained again."""
    rows = pd.concat([_first_solutions(file)[TABLE_COLUMNS].head(TABLE_ROWS) for file in files])
    client.log_text(run_id, rows.astype({"step": int}).to_json(orient="split", index=False), name)
    shown: list[dict[str, str]] = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    table = {"path": name, "type": "table"}
    if table not in shown:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*shown, table]))


def _first_solutions(file: Path) -> pd.DataFrame:
    """Return a step's rows, only the first solution to each guideline."""
    rows = pd.read_parquet(file)
    return rows[rows["sample"] == 0] if "sample" in rows else rows
