"""Checks a run's checkpoint directory and its MLflow store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from guidelines_core.preflight.findings import Finding, error
from guidelines_core.runs.claim import expected_store, record_fault
from guidelines_core.runs.claim_file import CLAIM, read_claim
from guidelines_core.runs.stores import masked, unreachable

KEY = "trainer.default_local_dir"

NAME_BYTES, PATH_BYTES = 200, 3500
"""The longest name and path of a directory that leave room for files in it and beside it. Linux accepts 255 and 4,096
bytes."""


def place_findings(directory: Path) -> Iterator[Finding]:
    """Yield a finding if the run's directory cannot be created or written to, or belongs to no run."""
    longest = max(len(os.fsencode(part)) for part in directory.parts)
    if longest > NAME_BYTES or len(os.fsencode(directory)) > PATH_BYTES:
        yield error(KEY, f"{str(directory)[:80]}…",
                    f"its longest name has {longest} bytes, the path {len(os.fsencode(directory))}",
                    f"give names of at most {NAME_BYTES} and a path of at most {PATH_BYTES} bytes")  # fmt: skip
        return
    there = next(folder for folder in (directory, *directory.parents) if os.path.lexists(folder))
    if not there.is_dir():
        yield error(KEY, directory, f"{there} is no directory", "move it away, or give another path")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield error(KEY, directory, f"{there} cannot be written to", "give a directory on a disk that can be")
    elif there == directory and not (directory / CLAIM).is_file() and any(directory.iterdir()):
        yield error(KEY, directory, f"it exists and belongs to no run: it has no {CLAIM}",
                    "move it away, or give another path")  # fmt: skip


def record_findings(directory: Path, *, resume: bool, new: bool) -> Iterator[Finding]:
    """Yield a finding if the store does not answer, or lacks the run that is to be resumed."""
    store = expected_store(directory, resume=resume)
    if away := unreachable(store):
        yield error("MLFLOW_TRACKING_URI", masked(store), f"it cannot be used: {away.reason}",
                    away.remedy or "restore it, or set MLFLOW_TRACKING_URI to a store that answers; unset, it is "
                    "mlflow.db in the repository")  # fmt: skip
    elif resume and not new and os.path.isfile(directory / CLAIM):
        claimed = read_claim(directory)
        if "***" not in claimed.tracking_uri and (fault := record_fault(claimed)):
            yield error(KEY, directory, *fault.split(": ", 1))
