"""Runs a command and ends its processes when `run.py` ends: `python -m guidelines_core.launch.supervisor COMMAND…`.

If `run.py` ends in any way, SIGKILL included, the kernel signals this process, which ends every process of the run and
removes its shared memory and its folder. If this process ends, the kernel kills verl's, and `run.py` does the cleanup.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from guidelines_core.launch import shared_memory
from guidelines_core.launch.processes import adopt_orphans, end_descendants, end_with
from guidelines_core.runs.start import FOLDER

PARENT = "GUIDELINES_PARENT"
"""The environment variable with the id of a parent process; when the parent ends, so does the process."""

SCAN_S = 0.5
"""Seconds between two searches for new segments of shared memory."""


def main(command: list[str]) -> int:
    """Run `command` until it or this process's parent ends; return its exit code, 128 + N for signal N."""
    folder = Path(os.environ[FOLDER])
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    end_with(int(os.environ[PARENT]), signal.SIGTERM)
    segments = shared_memory.Watch(folder, lambda: psutil.Process().children(recursive=True))
    try:
        code = _wait(subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())}), segments)
        return code if code >= 0 else 128 - code
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        segments.scan()
        end_descendants()
        shared_memory.remove(shared_memory.recorded(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], segments: shared_memory.Watch) -> int:
    """Wait until `process` ends, note its segments of shared memory meanwhile, and return its exit code."""
    while True:
        try:
            return process.wait(SCAN_S)
        except subprocess.TimeoutExpired:
            segments.scan()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
