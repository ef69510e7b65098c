"""A run's records in MLflow: what is known before its first step, how it ended, and its experiment."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import TextIO

from mlflow import MlflowClient
from mlflow.entities import Experiment, Param
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as mlflow_database
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.prompts import VERSION as PROMPTS_VERSION
from guidelines_core.runs import inputs
from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.claim_file import Claim, ClaimError, write_claim
from guidelines_core.runs.description import EXPERIMENT_NOTE, NOTE, about
from guidelines_core.runs.provenance import data_sets, parameters, provenance
from guidelines_core.runs.stores import artifacts_location, tracking_uri

# MLflow retries an unreachable database ten times, for two minutes; four times take a second.
mlflow_database.MAX_RETRY_COUNT = 4

END = "end.json"
"""The end of the run's last attempt, while MLflow does not have it."""
CHECKPOINTS_TAG = "guidelines.checkpoints"
"""The tag of an MLflow run that names its checkpoint directory."""
LOG_TAIL = 200
"""Lines at the end of an unfinished attempt's log that MLflow gets."""


class Run:
    """An MLflow run with its checkpoint directory, whose lock this object holds."""

    def __init__(self, claim: Claim, lock: TextIO) -> None:
        self.claim = claim
        self._lock = lock
        self.client = MlflowClient(claim.tracking_uri)

    @property
    def directory(self) -> Path:
        """The checkpoint directory."""
        return Path(self.claim.directory)

    @property
    def status(self) -> str:
        """The run's MLflow status."""
        return str(self.client.get_run(self.claim.run_id).info.status)

    def record(self, config: DictConfig, attempt: int, note: str) -> None:
        """Log an attempt's configuration, data set, commit, versions and hardware before its first step.

        The run's parameters are those of its first attempt, since MLflow does not allow changes; a later attempt adds
        its configuration as `config-N.yaml` and the tag `guidelines.attempt.N` with the text `note`.
        """
        run_id = self.claim.run_id
        self.client.log_text(
            run_id, OmegaConf.to_yaml(config), "config.yaml" if attempt == 1 else f"config-{attempt}.yaml"
        )
        # A user may have changed the note of a resumed run.
        described = NOTE in self.client.get_run(run_id).data.tags
        digests = {
            f"guidelines.input.{key}": value for key, value in inputs.record(config, self.directory, attempt).items()
        }
        for key, value in {**about(config), **provenance(), **digests, f"guidelines.attempt.{attempt}": note}.items():
            if not (described and key == NOTE):
                self.client.set_tag(run_id, key, value)
        known = self.client.get_run(run_id).data.params
        params = [Param(key, value) for key, value in parameters(config).items() if key not in known]
        for first in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[first : first + 100], synchronous=True)
        self.client.log_inputs(run_id, list(data_sets(config)))
        manifest = Path(config.data.train_files).parent / "manifest.json"
        if manifest.exists():
            self.client.log_artifact(run_id, str(manifest))
        self.client.update_run(run_id, status="RUNNING")

    def finish(self, status: str, reason: str, log: Path) -> str | None:
        """Record the run's end: `status` FINISHED, FAILED or KILLED, its reason, and the log's last lines.

        Returns why the store did not accept it, None if it did. The end then stays in the directory for `settle`.
        """
        end = {"status": status, "reason": reason, "log": log.name}
        with contextlib.suppress(OSError):  # MLflow gets the end also if the disk is full
            write_atomically(self.directory / END, json.dumps(end))
        try:
            self._record_end(end)
        except Exception as error:  # MLflow's stores raise the errors of their network or database
            return f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        return None

    def settle(self) -> None:
        """Correct MLflow's status: record the pending end, or that the last attempt ended without recording one."""
        waiting = self.directory / END
        if waiting.exists():
            self._record_end(json.loads(waiting.read_text()))
        elif self.status == "RUNNING":
            logs = sorted((self.directory / "logs").glob("attempt-*.log"), key=lambda log: log.stat().st_mtime)
            reason = "its process ended without recording why"
            self._record_end({"status": "FAILED", "reason": reason, "log": logs[-1].name if logs else ""})

    def _record_end(self, end: dict[str, str]) -> None:
        run_id, log = self.claim.run_id, self.directory / "logs" / end["log"]
        if end["status"] != "FINISHED" and log.is_file():
            lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
            self.client.log_text(run_id, "\n".join(lines), f"log_tail/{log.name}")
        self.client.set_tag(run_id, "guidelines.end", end["reason"])
        self.client.set_terminated(run_id, end["status"])
        (self.directory / END).unlink(missing_ok=True)

    def release(self) -> None:
        """Release the directory's lock."""
        self._lock.close()


def new_run(config: DictConfig, run_name: str, directory: Path) -> Claim:
    """Create an MLflow run for `directory` and write its claim there."""
    uri = tracking_uri()
    client = MlflowClient(uri)
    run_id: str | None = None
    try:
        run_id = client.create_run(
            experiment_id(client, config.trainer.project_name),
            run_name=run_name,
            tags={
                CHECKPOINTS_TAG: str(directory),
                "guidelines.command": shlex.join(["python", "experiments/run.py", *sys.argv[1:]]),
                "guidelines.prompts": PROMPTS_VERSION,
                "mlflow.source.name": "experiments/run.py",
                "mlflow.source.type": "LOCAL",
            },
        ).info.run_id
        claimed = Claim(run_id, run_name, uri, str(directory), directory.stat().st_ino)
        write_claim(claimed)
    except BaseException:
        if run_id is not None:
            client.set_terminated(run_id, "FAILED")
        raise
    return claimed


def experiment_fault(experiment: Experiment) -> tuple[str, str] | None:
    """Return why an MLflow experiment cannot get a run, and the remedy; None if it can."""
    if experiment.lifecycle_stage == "active":
        return None
    restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
    return "this MLflow experiment was deleted", f"restore it ({restore}), or give another name"


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the MLflow experiment `name`, created if needed.

    A SQLite store's artifacts are beside its file, another database's in the repository; a server has its own folder.

    Raises:
        ClaimError: the experiment was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and (fault := experiment_fault(found)):
        raise ClaimError(f"trainer.project_name={name}: {'; '.join(fault)}")
    if found is not None:
        return str(found.experiment_id)
    uri = client.tracking_uri
    location = artifacts_location(uri)
    if location is None and not uri.startswith(("http://", "https://")):
        location = (ROOT / "mlruns").as_uri()
    # Without this tag MLflow's page assumes prompts and hides the metrics' columns and charts.
    tags = {"mlflow.experimentKind": "custom_model_development", NOTE: EXPERIMENT_NOTE}
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException:
        # Another start created it at the same time.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
