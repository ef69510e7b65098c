"""What a trainer leaves behind: processes of sweeps that are gone, and GPUs that are not free yet."""

from __future__ import annotations

import socket
import time

import psutil

from guidelines_core.hardware.gpus import devices
from guidelines_core.launch.processes import GRACE_S

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


def alive(process: psutil.Process) -> bool:
    """Say whether a process has not ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def clear_leftovers() -> None:
    """End what sweeps that are gone have left running: processes whose environment names a worker that is dead."""
    living = {identity(process) for process in psutil.process_iter()}
    left = []
    for process in psutil.process_iter():
        try:
            worker = process.environ().get(WORKER)
        except psutil.Error:
            continue
        if worker is not None and worker not in living:
            left.append(process)
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
