"""Ends the processes of dead sweeps, and waits for GPUs that are still in use."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil

from guidelines_core.hardware.gpus import devices
from guidelines_core.launch.processes import GRACE_S, clear
from guidelines_core.runs.start import FOLDER

WORKER = "GUIDELINES_SWEEP_WORKER"
"""The environment variable with the sweep's process, `pid:start`, for all processes that it starts."""

FREE_S, FREE_MIB = 60.0, 1024
"""Seconds that GPUs have to become free after a trainer's end, and MiB that may be in use on a free one."""


def identity(process: psutil.Process) -> str:
    """Return a process's number with its start, which distinguishes it from a later process of that number."""
    return f"{process.pid}:{process.create_time():.2f}"


def this_worker() -> str:
    """Return the names of this machine and this process."""
    return f"{socket.gethostname()} {identity(psutil.Process())}"


def clear_leftovers() -> None:
    """End the processes of dead sweeps: those whose environment names a worker that has ended.

    Processes of other containers are skipped, since their numbers differ from those in this one.
    """
    living = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            living.add(identity(process))
    here = os.readlink("/proc/self/ns/pid")
    left, folders = [], set()
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if WORKER not in environment or os.readlink(f"/proc/{process.pid}/ns/pid") != here:
                continue
        except (psutil.Error, OSError):
            continue
        if environment[WORKER] not in living:
            left.append(process)
            folders |= {Path(environment[FOLDER])} if FOLDER in environment else set()
    clear(folders)
    for process in left:
        # It may have ended by itself since.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=GRACE_S)


def await_free_gpus() -> None:
    """Wait until every GPU that this process may use is free.

    Raises:
        RuntimeError: one is not, after `FREE_S` seconds.
    """
    deadline = time.monotonic() + FREE_S
    while held := [device for device in devices() if device.total - device.free > FREE_MIB]:
        if time.monotonic() > deadline:
            names = ", ".join(f"GPU {device.index} by {'; '.join(device.processes) or 'unknown'}" for device in held)
            raise RuntimeError(f"still held {FREE_S:.0f} s after the trainer's end: {names}. End those processes")
        time.sleep(0.5)
