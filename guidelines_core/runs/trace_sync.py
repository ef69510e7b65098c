"""Copies the traces of a run's graded rows into MLflow, and deletes those of older steps.

`.traced.json` beside the rows lists the traces that each file of rows has in the store. It is written before each
request, so that an interrupted copy is repeated and its traces are found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.tracing.client import TracingClient

from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.traces import Origin, sample, steps_with_traces, traces
from guidelines_core.runs.tracking import Run

STATE_FILE = ".traced.json"
SPLITS = ("train", "validation")
DELETE_BATCH = 100
"""MLflow's limit of traces in one request to delete them."""


class TraceCopier:
    """Copies one run's traces; `section` is the section `guidelines` of its configuration."""

    def __init__(self, run: Run, section: Mapping[str, Any]) -> None:
        self._run, self._section = run, section
        self._settings: Mapping[str, int] = section.get("traces") or {}
        self._folder = run.directory / "rows"

    def copy(self, client: MlflowClient) -> None:
        """Copy the traces of new rows and delete those of steps that keep none; after an error, call it again."""
        if not any(self._settings.get(split) for split in SPLITS):
            return
        state = self._state()
        for split in SPLITS:
            files = {int(file.stem.split("_")[1]): file for file in sorted(self._folder.glob(f"{split}_*.parquet"))}
            chosen = steps_with_traces(files)
            for step, file in files.items():
                version = [file.stat().st_size, file.stat().st_mtime_ns]
                known = state.get(file.name, {"stands": None, "ids": []})
                if step not in chosen and known["ids"]:
                    self._delete(client, known["ids"])
                    self._save(state, file, version, [])
                elif step in chosen and known["stands"] != version:
                    self._copy_file(client, state, file, split, version)

    def _copy_file(
        self, client: MlflowClient, state: dict[str, Any], file: Path, split: str, version: list[int]
    ) -> None:
        """Write the traces of a file of rows, and delete other ones that the file had before."""
        rows = pd.read_parquet(file)
        wanted = traces(sample(rows[rows["asked_at"] != ""], split, self._settings), split, self._origin(client))
        new = [trace.info.trace_id for trace in wanted]
        before = state.get(file.name, {"ids": []})["ids"]
        self._save(state, file, None, [*before, *new])
        store = TracingClient(self._run.claim.tracking_uri)
        for trace in wanted:
            store.start_trace(trace.info)
        if wanted:
            store.log_spans(wanted[0].info.experiment_id, [span for trace in wanted for span in trace.spans])
        self._delete(client, [trace_id for trace_id in before if trace_id not in new])
        self._save(state, file, version, new)

    def _delete(self, client: MlflowClient, trace_ids: Sequence[str]) -> None:
        for first in range(0, len(trace_ids), DELETE_BATCH):
            client.delete_traces(self._experiment(client), trace_ids=list(trace_ids[first : first + DELETE_BATCH]))

    def _experiment(self, client: MlflowClient) -> str:
        return str(client.get_run(self._run.claim.run_id).info.experiment_id)

    def _origin(self, client: MlflowClient) -> Origin:
        claim = self._run.claim
        grader, style = self._section["grader"]["name"], self._section["prompts"]["style"]
        return Origin(claim.run_id, claim.run_name, self._experiment(client), grader, style)

    def _state(self) -> dict[str, Any]:
        file = self._folder / STATE_FILE
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _save(self, state: dict[str, Any], file: Path, version: list[int] | None, ids: list[str]) -> None:
        """Record the traces of a file of rows, and its copied size and time, None while a copy is under way."""
        state[file.name] = {"stands": version, "ids": ids}
        write_atomically(self._folder / STATE_FILE, json.dumps(state))
