"""Runs a command and ends its processes when `run.py` ends: `python -m guidelines_core.launch.supervisor COMMAND…`.

However `run.py` ends, SIGKILL included, the kernel tells this process, which then ends every process of the run and
clears shared memory and sockets. However this process ends, verl's is killed by the kernel, and `run.py` clears up.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

from guidelines_core.launch.processes import (
    FOLDER,
    adopt_orphans,
    end_descendants,
    end_with,
    remove_shared_memory,
    segments_since,
)

PARENT = "GUIDELINES_PARENT"
"""The process that a process of the run is to end with."""


def main(command: list[str]) -> int:
    """Run `command` to its end, or to the end of this process's parent; return its exit code, 128 + N for signal N."""
    began = time.time()
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    end_with(int(os.environ[PARENT]), signal.SIGTERM)
    try:
        code = subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())}).wait()
        return code if code >= 0 else 128 - code
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
        remove_shared_memory(segments_since(began))
        if folder := os.environ.get(FOLDER):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
