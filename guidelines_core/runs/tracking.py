"""The MLflow run of an experiment and its claim on a checkpoint directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
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
from guidelines_core.runs.checkpoints import last_checkpoint, write_atomically
from guidelines_core.runs.description import EXPERIMENT_NOTE, NOTE, about
from guidelines_core.runs.provenance import data_sets, parameters, provenance
from guidelines_core.runs.stores import (
    artifacts_location,
    follow_artifacts,
    masked,
    sqlite_file,
    tracking_uri,
    unreachable,
)

# MLflow asks a database that is away ten times, for two minutes, before it says so; four times take a second.
mlflow_database.MAX_RETRY_COUNT = 4

CLAIM = "claim.json"
END = "end.json"
"""How the run's last attempt ended, as long as MLflow does not know it."""
LOCK = ".lock"
CHECKPOINTS_TAG = "guidelines.checkpoints"
"""The tag of an MLflow run that names its checkpoint directory."""
LOG_TAIL = 200
"""Lines of the log of an attempt that did not finish that are kept in MLflow."""


class ClaimError(RuntimeError):
    """A checkpoint directory belongs to another run, and no option says what to do about it."""


@dataclass(frozen=True)
class Claim:
    """Which MLflow run owns a checkpoint directory.

    Attributes:
        run_id: the MLflow run.
        run_name: its name, which is the directory's too.
        tracking_uri: the store that holds it.
        directory: the checkpoint directory, absolute.
        inode: the directory's number in its file system, which a copy has not; 0 if it was not noted.
    """

    run_id: str
    run_name: str
    tracking_uri: str
    directory: str
    inode: int = 0


class Run:
    """One MLflow run that owns one checkpoint directory, for as long as this object holds the directory's lock."""

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
        """Log what is known before an attempt's first step: configuration, data set, commit, versions and hardware.

        The run's parameters are those of its first attempt, because MLflow lets none change; a later attempt adds
        its configuration as `config-N.yaml` and the tag `guidelines.attempt.N`, whose text is `note`.
        """
        run_id = self.claim.run_id
        self.client.log_text(
            run_id, OmegaConf.to_yaml(config), "config.yaml" if attempt == 1 else f"config-{attempt}.yaml"
        )
        # The note of a resumed run may have been changed by a person.
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

        Returns why the store did not take it, None if it did. It then waits in the directory for `settle`.
        """
        end = {"status": status, "reason": reason, "log": log.name}
        with contextlib.suppress(OSError):  # a full disk must not keep the end from MLflow
            write_atomically(self.directory / END, json.dumps(end))
        try:
            self._record_end(end)
        except Exception as error:  # MLflow's stores raise what their network or database raises
            return f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        return None

    def settle(self) -> None:
        """Correct MLflow's status: record the pending end, or that the last attempt died without recording one."""
        waiting = self.directory / END
        if waiting.exists():
            self._record_end(json.loads(waiting.read_text()))
        elif self.status == "RUNNING":
            logs = sorted((self.directory / "logs").glob("attempt-*.log"), key=lambda log: log.stat().st_mtime)
            reason = "its process was gone when the next start looked"
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


def claim(config: DictConfig, *, resume: bool, new: bool) -> Run:
    """Take a run and its checkpoint directory, atomically; with `new` both may get a number, `NAME-2`.

    The directory comes into being with its lock held, which only one of several starts can win; the lock lasts while
    the run is alive. Without `resume` or `new` a directory that is there already is refused. With both, a directory
    whose MLflow run is gone goes on as a new MLflow run.

    Raises:
        ClaimError: the directory is taken or cannot be made, or MLflow has not what the run is to be recorded in.
    """
    follow_artifacts(tracking_uri())
    wanted = Path(config.trainer.default_local_dir)
    directory = wanted
    number = 1
    while (lock := _make_locked(directory)) is None:
        if resume and new:
            return _recorded_anew(config, directory)
        if not new:
            run = _owner(directory, resume=resume)
            if resume:
                return run
            description = describe(run)
            run.release()
            raise ClaimError(f"{description}\nGo on with it: --resume. Start afresh beside it: --new.")
        number += 1
        directory = wanted.with_name(f"{wanted.name}-{number}")
    run_name = config.trainer.experiment_name if number == 1 else f"{config.trainer.experiment_name}-{number}"
    try:
        claimed = _new_run(config, run_name, directory)
    except BaseException:
        shutil.rmtree(directory)
        raise
    return Run(claimed, lock)


def _new_run(config: DictConfig, run_name: str, directory: Path) -> Claim:
    """Make an MLflow run for `directory`, and write its claim there."""
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
        _write(claimed)
    except BaseException:
        if run_id is not None:
            client.set_terminated(run_id, "FAILED")
        raise
    return claimed


def _recorded_anew(config: DictConfig, directory: Path) -> Run:
    """Give a directory whose MLflow run is gone a new one of the same name; its journals have the steps so far."""
    lock = _locked(directory)
    claimed = read_claim(directory)
    if record_fault(claimed) is None:
        lock.close()
        raise ClaimError(
            f"MLflow has run {claimed.run_id} of {directory}: give --resume to go on with it, or --new to start beside "
            "it; both together are for a run that MLflow has no more"
        )
    for copied in (directory / "rows").glob(".copied.json"):
        copied.unlink()
    return Run(_new_run(config, claimed.run_name, directory), lock)


def expected_store(directory: Path, *, resume: bool) -> str:
    """Return the store that a start in `directory` records in: this one, or with `resume` that of the run there."""
    if not resume or not os.path.isfile(directory / CLAIM):
        return tracking_uri()
    uri = read_claim(directory).tracking_uri
    return tracking_uri() if "***" in uri or _gone(uri) else uri


def record_fault(claimed: Claim) -> str | None:
    """Return why MLflow cannot go on with a claim's run, with the remedy; None if it can."""
    anew = "its checkpoints are there, and --resume --new goes on with them as a new MLflow run"
    if _gone(claimed.tracking_uri):
        return f"its store {claimed.tracking_uri} is gone: bring it back; or {anew}"
    if away := unreachable(claimed.tracking_uri):
        return f"its store {masked(claimed.tracking_uri)} does not answer ({away}): bring it back"
    try:
        info = MlflowClient(claimed.tracking_uri).get_run(claimed.run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return f"{masked(claimed.tracking_uri)} has no MLflow run {claimed.run_id}: {anew}"
    if info.lifecycle_stage != "active":
        restore = f"mlflow runs restore --run-id {claimed.run_id}"
        return f"MLflow run {claimed.run_id} was deleted: restore it ({restore}); or {anew}"
    return None


def _make_locked(directory: Path) -> TextIO | None:
    """Make `directory` and return its lock, held; return None if the directory is there already.

    It is made under another name and renamed, so that nobody ever sees it without its lock.

    Raises:
        ClaimError: it cannot be made.
    """
    try:
        if directory.is_dir():
            return None
        directory.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        lock = _locked(making)
        making.chmod(0o755)
        try:
            making.rename(directory)
        except OSError as error:
            lock.close()
            shutil.rmtree(making)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return None
        return lock
    except OSError as error:
        raise ClaimError(
            f"trainer.default_local_dir={directory}: {error.strerror} ({error.filename}): give a directory that can be "
            "made and written to"
        ) from error


def _write(claimed: Claim) -> None:
    """Write a claim into its directory, without the store's password."""
    written = replace(claimed, tracking_uri=masked(claimed.tracking_uri))
    write_atomically(Path(claimed.directory) / CLAIM, json.dumps(asdict(written), indent=1))


def _owner(directory: Path, *, resume: bool) -> Run:
    """Return the run that owns `directory`; one that says RUNNING though nobody holds its lock has died.

    What may be a copy of a directory says nothing about the run, until somebody goes on with it by `resume`.
    """
    run = owned(directory)
    if fault := record_fault(run.claim):
        run.release()
        raise ClaimError(f"{run.claim.run_name} in {directory}: {fault}")
    claimed = read_claim(directory)
    if claimed.directory == str(directory) and claimed.inode in (0, directory.stat().st_ino):
        run.settle()
    elif resume:
        run.settle()
        _write(run.claim)
        run.client.set_tag(run.claim.run_id, CHECKPOINTS_TAG, run.claim.directory)
    return run


def owned(directory: Path) -> Run:
    """Return the run that owns `directory`, with its lock, as MLflow last heard of it.

    Raises:
        ClaimError: it is alive, `directory` belongs to none or is a copy of one that is there, or its store is not
            there or needs a password that is not given.
    """
    lock = _locked(directory)
    try:
        claimed = read_claim(directory)
    except FileNotFoundError:
        raise ClaimError(
            f"{directory} is there and belongs to no run: expected {CLAIM} in it. "
            "Move it away, or use --new to start beside it"
        ) from None
    if is_copy(claimed, directory):
        raise ClaimError(
            f"{directory} is a copy of {claimed.directory}, which MLflow run {claimed.run_id} owns: "
            "go on there, or use --new to start beside the copy"
        )
    claimed = replace(claimed, directory=str(directory), inode=directory.stat().st_ino)
    if claimed.tracking_uri == masked(tracking_uri()):
        claimed = replace(claimed, tracking_uri=tracking_uri())
    elif "***" in claimed.tracking_uri:
        raise ClaimError(
            f"{claimed.run_name} is recorded in {claimed.tracking_uri}, and MLFLOW_TRACKING_URI is "
            f"{masked(tracking_uri())}: set it to that store, with its password"
        )
    elif _gone(claimed.tracking_uri) and not _gone(tracking_uri()) and _has(tracking_uri(), claimed.run_id):
        claimed = replace(claimed, tracking_uri=tracking_uri())
    if _gone(claimed.tracking_uri):
        lock.close()
        raise ClaimError(f"{claimed.run_name} in {directory}: {record_fault(claimed)}")
    return Run(claimed, lock)


def read_claim(directory: Path) -> Claim:
    """Return the claim that lies in a run's directory; FileNotFoundError where there is none."""
    return Claim(**json.loads((directory / CLAIM).read_text()))


def is_copy(claimed: Claim, directory: Path) -> bool:
    """Say whether the directory that a claim names is another one than `directory`, and holds the same claim."""
    original = Path(claimed.directory)
    if not (original / CLAIM).is_file() or original.samefile(directory):
        return False
    return read_claim(original).run_id == claimed.run_id


def _gone(uri: str) -> bool:
    """Say whether a store is a file that is not there; asking MLflow would make an empty one."""
    return (file := sqlite_file(uri)) is not None and not file.is_file()


def _has(uri: str, run_id: str) -> bool:
    """Say whether a store has a run."""
    try:
        MlflowClient(uri).get_run(run_id)
    except MlflowException:
        return False
    return True


def _locked(directory: Path) -> TextIO:
    """Return the open lock file of `directory`; the lock ends with the process that holds it."""
    lock = (directory / LOCK).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip() or "unknown"
        lock.close()
        raise ClaimError(
            f"{directory} is in use by a run that is alive (process {pid}): wait for it or end it"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def describe(run: Run) -> str:
    """Return what stands at a run's directory: its status, steps and age."""
    info = run.client.get_run(run.claim.run_id).info
    started = datetime.fromtimestamp(info.start_time / 1000, timezone.utc)
    minutes = (datetime.now(timezone.utc) - started).total_seconds() / 60
    return (
        f"{run.claim.run_name} is there already: MLflow run {run.claim.run_id}, {info.status}, "
        f"last checkpoint at step {last_checkpoint(run.directory)}, started {minutes:.0f} min ago, in {run.directory}."
    )


def experiment_fault(experiment: Experiment) -> tuple[str, str] | None:
    """Return why no run can be recorded in an MLflow experiment, and the remedy; None if one can."""
    if experiment.lifecycle_stage == "active":
        return None
    restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
    return "this MLflow experiment was deleted", f"restore it ({restore}), or give another name"


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of MLflow experiment `name`, made if needed.

    A SQLite store's artifacts lie beside its file, another database's in the repository; a server has its own place.
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
    # MLflow's page would otherwise guess that this is about prompts and hide the metrics' columns and charts.
    tags = {"mlflow.experimentKind": "custom_model_development", NOTE: EXPERIMENT_NOTE}
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException:
        # Another start made it in the same moment.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
