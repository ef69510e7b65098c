"""Finds the recorded run that a user names: by its MLflow id, its name, or its checkpoint directory."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from guidelines_core.runs.claim_file import CLAIM
from guidelines_core.runs.stores import masked, sqlite_file, tracking_uri, unreachable

PARENT = "mlflow.parentRunId"
"""The tag of a nested run, such as a sweep's trial."""

LISTED = 10
"""How many candidates an error names."""


class RunError(ValueError):
    """A RUN that cannot be used; one sentence, and where there are candidates a line for each."""


def open_store() -> MlflowClient:
    """Return the client of the MLflow store; a SQLite file that does not exist is not created.

    Raises:
        RunError: the SQLite file of the store does not exist, or the store cannot be reached.
    """
    uri = tracking_uri()
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise RunError(
            f"MLFLOW_TRACKING_URI={uri}: there is no such file, so no run; start one with experiments/run.py"
        )
    if away := unreachable(uri):
        remedy = "start that server, or unset the variable"
        raise RunError(f"MLFLOW_TRACKING_URI={masked(uri)}: {away.or_else(remedy)}")
    return MlflowClient(uri)


def find_run(text: str, client: MlflowClient, status: str = "FINISHED") -> Run:
    """Return the run that `text` names: an id, a checkpoint directory, or a name.

    A name means its newest top-level run of that status.

    Raises:
        RunError: `text` names no run, or runs in several MLflow experiments; the message lists the candidates.
    """
    claimed = Path(text) / CLAIM
    if claimed.is_file():
        return _by_id(str(json.loads(claimed.read_text())["run_id"]), text, client)
    if re.fullmatch(r"[0-9a-f]{32}", text):
        return _by_id(text, text, client)
    if "'" in text or not text:
        raise RunError(f"run {text!r}: expected a run's id, its checkpoint directory, or its name, which has no quotes")
    return _by_name(text, client, status)


def _by_id(run_id: str, text: str, client: MlflowClient) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException:
        named = "" if text == run_id else f", which {Path(text) / CLAIM} names"
        raise RunError(f"run {run_id}{named}: no run of this id in {masked(client.tracking_uri)}") from None


def _by_name(name: str, client: MlflowClient, status: str) -> Run:
    experiments = [str(experiment.experiment_id) for experiment in client.search_experiments()]
    named = f"attributes.run_name = '{name}'"
    top = f"{named} AND tags.`{PARENT}` IS NULL"
    wanted = f"{top} AND attributes.status = '{status}'"
    newest = [run for experiment in experiments for run in _search(client, [experiment], wanted, 1)]
    if len(newest) > 1:
        raise RunError(
            f"run {name!r}: {len(newest)} MLflow experiments have {status.lower()} runs of this name; give an id:"
            + _listing(newest)
        )
    if newest:
        return newest[0]
    if others := _search(client, experiments, top):
        raise RunError(
            f"run {name!r}: none of this name is {status}; give an id to read one all the same:" + _listing(others)
        )
    if trials := _search(client, experiments, named):
        raise RunError(
            f"run {name!r}: only nested runs (a sweep's trials) have this name; give an id:" + _listing(trials)
        )
    similar = _search(client, experiments, f"attributes.run_name ILIKE '%{name}%'")
    candidates = similar or _search(client, experiments, "")
    if not candidates:
        raise RunError(
            f"run {name!r}: {masked(client.tracking_uri)} holds no runs yet; start one with experiments/run.py"
        )
    which = "runs with similar names" if similar else "the newest runs"
    raise RunError(f"run {name!r}: no run has this name or id; {which}:" + _listing(candidates))


def _search(client: MlflowClient, experiments: list[str], where: str, limit: int = LISTED) -> list[Run]:
    """Return the newest `limit` runs that the filter `where` selects, newest first."""
    if not experiments:
        return []
    return list(client.search_runs(experiments, where, max_results=limit, order_by=["attributes.start_time DESC"]))


def _listing(runs: Sequence[Run]) -> str:
    lines = []
    for run in runs:
        started = datetime.fromtimestamp(run.info.start_time / 1000, timezone.utc)
        lines.append(f"\n  {run.info.run_id}  {run.info.status:8}  {started:%Y-%m-%d %H:%M}  {run.info.run_name}")
    return "".join(lines)
