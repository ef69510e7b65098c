"""The two exceptions that end a trial without a result, and the cause of a failure."""

from __future__ import annotations

import re
from pathlib import Path

OUT_OF_MEMORY = "out of memory"

CAUSES = {
    OUT_OF_MEMORY: r"out of memory|OutOfMemory|No available memory for the cache|MemoryError|running low on memory",
    "solver lost": r"SolverError|no solution within|solver's server|no materializable trajectories|EngineDeadError|"
    r"SolverLostError|ProcessDiedError: the (rollout|solver's) server|class_name: vLLMHttpServer|of an engine ended",
}
"""Patterns in a log by the cause that they show; the first match counts."""

LAST_LINES = 200
"""The number of lines at the end of a log that are searched for a cause."""


class TrialFailedError(RuntimeError):
    """A trial ended without a result; the message begins with its cause: out of memory, solver lost, timeout, error."""


class TrialTooSlowError(RuntimeError):
    """A trial was ended because its rate was below the median of other trials."""


def with_cause(reason: str, log: Path | None) -> str:
    """Return `CAUSE: reason`, with the cause that the reason or the log shows, or `error`."""
    if reason.startswith(("timeout:", "error:", *(f"{name}:" for name in CAUSES))):
        return reason
    said = [reason, *(log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log else [])]
    known = (name for name, pattern in CAUSES.items() if re.search(pattern, "\n".join(said), re.IGNORECASE))
    return f"{next(known, 'error')}: {reason}"


def excludes_larger(cause: str) -> bool:
    """Return whether `cause` means that larger points fail as well: only out of memory does.

    Other failures, such as a killed engine or a busy machine, may not happen again.
    """
    return cause.startswith(f"{OUT_OF_MEMORY}:")
