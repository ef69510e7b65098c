"""Ends the process that a benchmark measures if the benchmark itself is interrupted or fails."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ended_on_error(process: subprocess.Popen[Any]) -> Iterator[None]:
    """If the block raises, KeyboardInterrupt included, send `process` SIGINT, as Ctrl-C does, and wait for its end."""
    try:
        yield
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
