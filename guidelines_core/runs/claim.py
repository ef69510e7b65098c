"""Takes a checkpoint directory for a run: a new one, or that of a run to resume."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig

from guidelines_core.runs.checkpoints import last_checkpoint
from guidelines_core.runs.claim_file import (
    CLAIM,
    Claim,
    ClaimError,
    is_copy,
    locked,
    make_locked,
    read_claim,
    write_claim,
)
from guidelines_core.runs.stores import follow_artifacts, masked, sqlite_file, tracking_uri, unreachable
from guidelines_core.runs.tracking import CHECKPOINTS_TAG, Run, new_run


def claim(config: DictConfig, *, resume: bool, new: bool) -> Run:
    """Take a run and its checkpoint directory atomically; with `new` both may get a number, `NAME-2`.

    The directory is created with its lock held, so only one of several starts gets it; the lock is held until the run
    ends. Without `resume` or `new` an existing directory is refused. With both, a directory whose MLflow run is gone
    gets a new MLflow run.

    Raises:
        ClaimError: the directory is taken or cannot be created, or the MLflow run or experiment is missing.
    """
    follow_artifacts(tracking_uri())
    wanted = Path(config.trainer.default_local_dir)
    directory = wanted
    number = 1
    while (lock := make_locked(directory)) is None:
        if resume and new:
            return _with_new_run(config, directory)
        if not new:
            run = _owner(directory, resume=resume)
            if resume:
                return run
            raise taken(run)
        number += 1
        directory = wanted.with_name(f"{wanted.name}-{number}")
    run_name = config.trainer.experiment_name if number == 1 else f"{config.trainer.experiment_name}-{number}"
    try:
        claimed = new_run(config, run_name, directory)
    except BaseException:
        shutil.rmtree(directory)
        raise
    return Run(claimed, lock)


def _with_new_run(config: DictConfig, directory: Path) -> Run:
    """Give a directory whose MLflow run is gone a new one with the same name; its journals have the steps so far."""
    lock = locked(directory)
    claimed = read_claim(directory)
    if record_fault(claimed) is None:
        lock.close()
        raise not_lost(claimed, directory)
    for copied in (directory / "rows").glob(".copied.json"):
        copied.unlink()
    return Run(new_run(config, claimed.run_name, directory), lock)


def existing(config: DictConfig, *, resume: bool, new: bool) -> Run | None:
    """Return the run that `claim` would continue, with its lock, and change no record; None for a new MLflow run.

    Raises:
        ClaimError: `claim` would refuse.
    """
    directory = Path(config.trainer.default_local_dir)
    # What else may be wrong with the directory, preflight names.
    writable = os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)
    if not writable or not (directory / CLAIM).is_file() or (new and not resume):
        return None
    if resume and new:
        if record_fault(claimed := read_claim(directory)) is None:
            raise not_lost(claimed, directory)
        return None
    run = owned(directory)
    if fault := record_fault(run.claim):
        run.release()
        raise ClaimError(f"{run.claim.run_name} in {directory}: {fault}")
    if not resume:
        raise taken(run)
    return run


def taken(run: Run) -> ClaimError:
    """Release a run and return the refusal of a start in its directory without `--resume` or `--new`."""
    description = describe(run)
    run.release()
    return ClaimError(f"{description}\nContinue it: --resume. Start a new run beside it: --new.")


def not_lost(claimed: Claim, directory: Path) -> ClaimError:
    """Return the refusal of `--resume --new` for a run that MLflow has."""
    return ClaimError(
        f"MLflow has run {claimed.run_id} of {directory}: give --resume to continue it, or --new to start beside "
        "it; both together are for a run that MLflow has lost"
    )


def _owner(directory: Path, *, resume: bool) -> Run:
    """Return the run that owns `directory`; if its status is RUNNING without a held lock, its process has died.

    A possible copy of a directory changes the run's status only if it is resumed.
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
        write_claim(run.claim)
        run.client.set_tag(run.claim.run_id, CHECKPOINTS_TAG, run.claim.directory)
    return run


def owned(directory: Path) -> Run:
    """Return the run that owns `directory`, with its lock, without changing its status.

    Raises:
        ClaimError: the run is active, `directory` belongs to no run or is a copy of an existing one, or its store is
            missing or needs a password.
    """
    lock = locked(directory)
    try:
        claimed = read_claim(directory)
    except FileNotFoundError:
        raise ClaimError(
            f"{directory} exists and belongs to no run: expected {CLAIM} in it. "
            "Move it away, or use --new to start beside it"
        ) from None
    if is_copy(claimed, directory):
        raise ClaimError(
            f"{directory} is a copy of {claimed.directory}, which MLflow run {claimed.run_id} owns: "
            "continue there, or use --new to start beside the copy"
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


def expected_store(directory: Path, *, resume: bool) -> str:
    """Return the store of a start in `directory`: the configured one, or with `resume` that of the run there."""
    if not resume or not os.path.isfile(directory / CLAIM):
        return tracking_uri()
    uri = read_claim(directory).tracking_uri
    return tracking_uri() if "***" in uri or _gone(uri) else uri


def record_fault(claimed: Claim) -> str | None:
    """Return why MLflow cannot continue a claim's run, with the remedy; None if it can."""
    anew = "its checkpoints exist, and --resume --new continues with them as a new MLflow run"
    if _gone(claimed.tracking_uri):
        return f"its store {claimed.tracking_uri} is gone: bring it back; or {anew}"
    if away := unreachable(claimed.tracking_uri):
        return f"its store {masked(claimed.tracking_uri)} cannot be used: {away.or_else('bring it back')}"
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


def _gone(uri: str) -> bool:
    """Return whether a store is a file that does not exist; a request to MLflow would create an empty one."""
    return (file := sqlite_file(uri)) is not None and not file.is_file()


def _has(uri: str, run_id: str) -> bool:
    """Return whether a store answers and has a run."""
    if unreachable(uri):
        return False
    try:
        MlflowClient(uri).get_run(run_id)
    except MlflowException:
        return False
    return True


def describe(run: Run) -> str:
    """Return a description of the run in a directory: its status, steps and age."""
    info = run.client.get_run(run.claim.run_id).info
    started = datetime.fromtimestamp(info.start_time / 1000, timezone.utc)
    minutes = (datetime.now(timezone.utc) - started).total_seconds() / 60
    return (
        f"{run.claim.run_name} exists already: MLflow run {run.claim.run_id}, {info.status}, "
        f"last checkpoint at step {last_checkpoint(run.directory)}, started {minutes:.0f} min ago, in {run.directory}."
    )
