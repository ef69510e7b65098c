"""What dead sweeps leave, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sweeps import leftovers


def test_processes_of_a_dead_sweep_are_ended_also_if_one_ends_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def left_by(worker: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        return subprocess.Popen(command, env={**os.environ, leftovers.WORKER: worker})

    # The number of no process.
    first, second = left_by("4194305:1.00"), left_by("4194305:1.00")
    living = left_by(leftovers.this_worker().split(" ")[1])

    def end_first(folders: set[Path]) -> None:
        first.kill()
        first.wait()

    monkeypatch.setattr(leftovers, "clear", end_first)
    try:
        leftovers.clear_leftovers()
        assert not psutil.pid_exists(second.pid)
        assert living.poll() is None
    finally:
        for process in (first, second, living):
            process.kill()
            process.wait()
