"""Records a sweep in MLflow: a run for the study, and a nested run for each trial with its point and its metrics."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from optuna.study import Study

from guidelines_core.runs.claim_file import Claim
from guidelines_core.runs.journal import Journal
from guidelines_core.runs.mlflow_sync import BATCH, missing_metrics
from guidelines_core.runs.provenance import provenance
from guidelines_core.runs.stores import tracking_uri
from guidelines_core.runs.tracking import Run, experiment_id
from sweeps.attributes import MAKER
from sweeps.leftovers import identity, this_worker

PARENT = "mlflow_run"
"""User attribute of a study: the MLflow run that holds its trials."""

PARENT_S = 20.0
"""Seconds that a worker waits for the study's maker to create that run."""

END = "guidelines.end"
"""Tag of a run that has ended: the reason."""

HOLDER = "sweep.worker"
"""Tag of a trial's run: the machine and the process of the sweep that measures it."""


def journal_of(folder: Path, name: str) -> Path:
    """Return the file to which verl writes the steps of trial `name` of the study in `folder`."""
    return folder / "trials" / f"{name}.jsonl"


class Record:
    """The MLflow runs of a study, which all workers and continuations share."""

    def __init__(self, study: Study, project: str, folder: Path) -> None:
        self.uri = tracking_uri()
        self.client = MlflowClient(self.uri)
        self._folder = folder
        self._experiment = experiment_id(self.client, project)
        self._known: set[str] = set()
        self.parent = self._parent(study)
        self.client.update_run(self.parent, status="RUNNING")
        self._end_dead_trials()

    def _parent(self, study: Study) -> str:
        """Return the id of the study's run; of several workers that start at once, the study's maker creates it."""
        deadline = time.monotonic() + PARENT_S
        while PARENT not in (known := study.user_attrs) and known.get(MAKER) != this_worker():
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        parent = self._existing(study.user_attrs.get(PARENT)) or self._create(f"sweep {study.study_name}", None)
        study.set_user_attr(PARENT, parent)
        return parent

    def _existing(self, run_id: str | None) -> str | None:
        """Return the run's id if the MLflow store has the run, else None."""
        try:
            return str(self.client.get_run(run_id).info.run_id) if run_id else None
        except MlflowException:
            return None

    def _create(self, name: str, parent: str | None) -> str:
        tags = {"mlflow.source.name": "sweeps/throughput.py", "mlflow.source.type": "LOCAL"}
        tags |= {"mlflow.parentRunId": parent, HOLDER: this_worker()} if parent else provenance()
        return str(self.client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)

    def _end_dead_trials(self) -> None:
        """Close the unfinished runs of trials whose sweep on this machine was killed."""
        query = f"tags.mlflow.parentRunId = '{self.parent}'"
        living = {identity(process) for process in psutil.process_iter()}
        for run in self.client.search_runs([self._experiment], query):
            host, _, worker = run.data.tags[HOLDER].partition(" ")
            if END not in run.data.tags and host == socket.gethostname() and worker not in living:
                journal = journal_of(self._folder, run.info.run_name)
                self.end(run.info.run_id, "KILLED", "its sweep was killed", {}, journal)

    def trainer(self, folder: Path) -> Run:
        """Return the run for a trainer's process: the study's MLflow run, and the trainer's own folder."""
        claimed = Claim(run_id=self.parent, run_name=folder.name, tracking_uri=self.uri, directory=str(folder))
        return Run(claimed, (folder / "lock").open("w"))

    def begin(self, name: str, point: Mapping[str, Any]) -> str:
        """Open a trial's run and return its id."""
        # Another worker may have closed it between two trials of this one.
        self.client.update_run(self.parent, status="RUNNING")
        run_id = self._create(name, self.parent)
        self.client.log_batch(run_id, params=[Param(f"sweep/{axis}", str(value)) for axis, value in point.items()])
        return run_id

    def end(
        self, run_id: str, status: str, reason: str, metrics: Mapping[str, float], journal: Path | None = None
    ) -> None:
        """Close a trial's run with its metrics; `status` is FINISHED, FAILED or KILLED.

        The steps' metrics are read from `journal`, if it exists.
        """
        if journal is not None and journal.exists():
            steps = missing_metrics(Journal(journal).entries(), {})
            for first in range(0, len(steps), BATCH):
                self.client.log_batch(run_id, metrics=steps[first : first + BATCH])
        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        self.client.set_tag(run_id, END, reason)
        self.client.set_terminated(run_id, status)

    def close(self, status: str, reason: str, metrics: Mapping[str, float]) -> None:
        """Close the study's run if no other worker still measures a trial of it."""
        self._end_dead_trials()
        query = f"tags.mlflow.parentRunId = '{self.parent}' and attributes.status = 'RUNNING'"
        others = self.client.search_runs([self._experiment], query)
        if not any(run.data.tags[HOLDER] != this_worker() for run in others):
            self.end(self.parent, status, reason, metrics)
