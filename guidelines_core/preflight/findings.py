"""A finding of preflight: what would fail or waste time, its key and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that would fail or waste time.

    Attributes:
        severity: an `error` stops the run, a `warning` is printed.
        key: the configuration's key; or an environment variable, `GPUs`, `disk` and the like.
        value: the present value.
        reason: what was expected, or the cost of the value.
        remedy: what to do.
    """

    severity: Severity
    key: str
    value: Any
    reason: str
    remedy: str

    def __str__(self) -> str:
        """The finding in one line."""
        return f"{self.severity}: {self.key}={self.value}: {self.reason}; {self.remedy}"


def error(key: str, value: Any, reason: str, remedy: str) -> Finding:
    """Return a finding that stops the run."""
    return Finding("error", key, value, reason, remedy)


def warning(key: str, value: Any, reason: str, remedy: str) -> Finding:
    """Return a finding that is printed and does not stop the run."""
    return Finding("warning", key, value, reason, remedy)
