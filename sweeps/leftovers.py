"""What a trainer leaves behind: processes of sweeps that are gone, and GPUs that are not free yet."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import psutil

from guidelines_core.hardware.gpus import devices
from guidelines_core.launch.processes import FOLDER, GRACE_S, clear

WORKER = "GUIDELINES_SWEEP_WORKER"
"""Names the sweep's process, `pid:start`, in the environment of all that it starts."""

FREE_S, FREE_MIB = 60.0, 1024
"""How long GPUs get to become free after a trainer's end, and what may be held on a free one."""


def identity(process: psutil.Process) -> str:
    """Return what tells a process from a later one with its number."""
    return f"{process.pid}:{process.create_time():.2f}"


def this_worker() -> str:
    """Return this machine and process."""
    return f"{socket.gethostname()} {identity(psutil.Process())}"


def clear_leftovers() -> None:
    """End the processes left by dead sweeps: those whose environment names a dead worker.

    A worker in another container has a number that says nothing here.
    """
    living = {identity(process) for process in psutil.process_iter()}
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
