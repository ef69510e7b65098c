"""A run's claim on a checkpoint directory: the file `claim.json` and a lock in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.stores import masked

CLAIM = "claim.json"
LOCK = ".lock"


class ClaimError(RuntimeError):
    """A run cannot have its checkpoint directory or its MLflow run; the message names the remedy."""


@dataclass(frozen=True)
class Claim:
    """The MLflow run that owns a checkpoint directory.

    Attributes:
        run_id: the MLflow run.
        run_name: its name, which is also the directory's.
        tracking_uri: its store.
        directory: the checkpoint directory, absolute.
        inode: the directory's inode number, which differs for a copy; 0 if it was not recorded.
    """

    run_id: str
    run_name: str
    tracking_uri: str
    directory: str
    inode: int = 0


def read_claim(directory: Path) -> Claim:
    """Return the claim in a run's directory.

    Raises:
        FileNotFoundError: there is none.
    """
    return Claim(**json.loads((directory / CLAIM).read_text()))


def write_claim(claimed: Claim) -> None:
    """Write a claim into its directory, without the store's password."""
    written = replace(claimed, tracking_uri=masked(claimed.tracking_uri))
    write_atomically(Path(claimed.directory) / CLAIM, json.dumps(asdict(written), indent=1))


def is_copy(claimed: Claim, directory: Path) -> bool:
    """Return whether the directory that a claim names still exists, is not `directory`, and has the same claim."""
    original = Path(claimed.directory)
    if not (original / CLAIM).is_file() or original.samefile(directory):
        return False
    return read_claim(original).run_id == claimed.run_id


def make_locked(directory: Path) -> TextIO | None:
    """Create `directory` and return its lock, held; return None if the directory exists.

    It is created under another name and renamed, so that it always has its lock.

    Raises:
        ClaimError: it cannot be created.
    """
    try:
        if directory.is_dir():
            return None
        directory.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        lock = locked(making)
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
            "created and written to"
        ) from error


def locked(directory: Path) -> TextIO:
    """Return the open lock file of `directory`; the system releases the lock when the process ends.

    Raises:
        ClaimError: another process holds it.
    """
    lock = (directory / LOCK).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip() or "unknown"
        lock.close()
        raise ClaimError(f"{directory} is in use by an active run (process {pid}): wait for it or end it") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
