"""How a trial ends without a figure: the two exceptions, and the cause of a failure."""

from __future__ import annotations

import re
from pathlib import Path

OUT_OF_MEMORY = "out of memory"

CAUSES = {
    OUT_OF_MEMORY: r"out of memory|OutOfMemory|No available memory for the cache|MemoryError|running low on memory",
    "solver lost": r"SolverError|no solution within|solver's server|no materializable trajectories|EngineDeadError|"
    r"SolverLostError|ProcessDiedError: the (rollout|solver's) server|class_name: vLLMHttpServer|of an engine ended",
}
"""What a log says of a failure; the first that is found is its cause."""

LAST_LINES = 200
"""Lines at a log's end that are searched for a cause."""


class Failed(RuntimeError):
    """A trial ended without a figure; the message is its cause: out of memory, solver lost, timeout, error."""


class TooSlow(RuntimeError):
    """A trial was ended because its step was slower than the median's."""


def with_cause(reason: str, log: Path | None) -> str:
    """Return a failure's reason with its cause before it: one that is known, found in reason or log, or `error`."""
    if reason.startswith(("timeout:", "error:", *(f"{name}:" for name in CAUSES))):
        return reason
    said = [reason, *(log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log else [])]
    known = (name for name, pattern in CAUSES.items() if re.search(pattern, "\n".join(said), re.IGNORECASE))
    return f"{next(known, 'error')}: {reason}"


def excludes_larger(cause: str) -> bool:
    """Say whether a trial that failed for `cause` shows that larger points would fail, too.

    Only memory does. What else ends a trial (an engine that was killed, a machine that was busy) may not happen again.
    """
    return cause.startswith(f"{OUT_OF_MEMORY}:")
