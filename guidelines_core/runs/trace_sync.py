"""Copies the traces of a run's graded rows into MLflow, and deletes those of older steps.

`.traced.json` beside the rows says which traces each file of rows has in the store. It is written before the store is
asked, so that a copy which was interrupted is repeated and leaves none behind.
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
from guidelines_core.runs.traces import Origin, kept_steps, sample, traces
from guidelines_core.runs.tracking import Run

TRACED = ".traced.json"
SPLITS = ("train", "validation")
AT_ONCE = 100
"""Traces in one request to delete them; MLflow takes no more."""


class TraceCopier:
    """Copies one run's traces; `section` is the section `guidelines` of its configuration."""

    def __init__(self, run: Run, section: Mapping[str, Any]) -> None:
        self._run, self._section = run, section
        self._settings: Mapping[str, int] = section.get("traces") or {}
        self._folder = run.directory / "rows"

    def copy(self, client: MlflowClient) -> None:
        """Copy what is new of the rows, and delete what is superfluous; one that is interrupted is called again."""
        if not any(self._settings.get(split) for split in SPLITS):
            return
        state = self._state()
        for split in SPLITS:
            files = {int(file.stem.split("_")[1]): file for file in sorted(self._folder.glob(f"{split}_*.parquet"))}
            kept = kept_steps(files)
            for step, file in files.items():
                stands = [file.stat().st_size, file.stat().st_mtime_ns]
                known = state.get(file.name, {"stands": None, "ids": []})
                if step not in kept and known["ids"]:
                    self._delete(client, known["ids"])
                    self._note(state, file, stands, [])
                elif step in kept and known["stands"] != stands:
                    self._copy_file(client, state, file, split, stands)

    def _copy_file(
        self, client: MlflowClient, state: dict[str, Any], file: Path, split: str, stands: list[int]
    ) -> None:
        """Write the traces of a file of rows, and delete those of an earlier try of its step."""
        rows = pd.read_parquet(file)
        found = traces(sample(rows[rows["asked_at"] != ""], split, self._settings), split, self._origin(client))
        new = [trace.info.trace_id for trace in found]
        before = state.get(file.name, {"ids": []})["ids"]
        self._note(state, file, None, [*before, *new])
        store = TracingClient(self._run.claim.tracking_uri)
        for trace in found:
            store.start_trace(trace.info)
        if found:
            store.log_spans(found[0].info.experiment_id, [span for trace in found for span in trace.spans])
        self._delete(client, [trace_id for trace_id in before if trace_id not in new])
        self._note(state, file, stands, new)

    def _delete(self, client: MlflowClient, trace_ids: Sequence[str]) -> None:
        for first in range(0, len(trace_ids), AT_ONCE):
            client.delete_traces(self._experiment(client), trace_ids=list(trace_ids[first : first + AT_ONCE]))

    def _experiment(self, client: MlflowClient) -> str:
        return str(client.get_run(self._run.claim.run_id).info.experiment_id)

    def _origin(self, client: MlflowClient) -> Origin:
        claim = self._run.claim
        grader, style = self._section["grader"]["name"], self._section["prompts"]["style"]
        return Origin(claim.run_id, claim.run_name, self._experiment(client), grader, style)

    def _state(self) -> dict[str, Any]:
        file = self._folder / TRACED
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _note(self, state: dict[str, Any], file: Path, stands: list[int] | None, ids: list[str]) -> None:
        state[file.name] = {"stands": stands, "ids": ids}
        write_atomically(self._folder / TRACED, json.dumps(state))
