"""The user attributes that a sweep writes to its Optuna study and trials."""

from __future__ import annotations

LIMIT = "limit"
"""Of a study: the truncated share that its best trial may have."""

MAKER = "made_by"
"""Of a study: the worker that made it, by machine, process and that process's start."""

COMMAND = "command"
"""Of a study: the command line that made it."""

REFERENCE = "reference"
"""Of a trial: it measures the experiment as it is."""

POINT_SUGGESTED = "asked"
"""Of a trial: it has a value on every axis."""

RATE, TRUNCATED = "rate", "truncated"
"""Of a measured trial: graded rollouts a second, and the larger truncated share."""

CAUSE = "cause"
"""Of a failed trial: why; it begins with one of `failures.CAUSES`, `timeout` or `error`."""

ATTEMPT = "attempt"
"""Of a trial that repeats a failed one: how many trials of its point failed before."""

REPEATED = "repeated"
"""Of a failed trial: its point is queued again, so that another trial counts in its place."""

INTERRUPTED = "interrupted"
"""Of a trial that was stopped on request; its point is queued again."""

MACHINE = "machine"
"""Of a trial: the machine that measured it."""
