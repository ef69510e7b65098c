"""The processes of a run and what they leave in shared memory: kept together, ended, cleared away.

Ray's and vLLM's processes start sessions of their own, so that no signal to a process group reaches them all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

GRACE_S = 6.0
"""Seconds that processes get to end by themselves before they are killed."""

FOLDER = "GUIDELINES_FOLDER"
"""Names, in the environment of each process of an attempt, its folder for sockets, which ends with it."""

FOLDER_OF_ATTEMPT = ".folder"
"""Ends the name of the file, among a run's logs, that names an attempt's folder."""

SEGMENTS = ("psm_*", "verl_weights_*", "sem.loky-*")
"""Names under /dev/shm of what Python, verl and joblib (in vLLM's engine) leave there when they are killed."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none escapes its end."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int, number: int) -> None:
    """Have signal `number` sent to this process when its parent, process `parent`, ends however it ends."""
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def end_descendants() -> None:
    """End every descendant of this process."""
    end(lambda: psutil.Process().children(recursive=True))


def leftovers(run: Path) -> list[psutil.Process]:
    """Return the living processes of a run's attempts; who holds the lock of its directory, `run`, expects none."""
    folders = {file.read_text() for file in (run / "logs").glob(f"*{FOLDER_OF_ATTEMPT}")}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(FOLDER) in folders:
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(processes: Callable[[], list[psutil.Process]]) -> None:
    """End what `processes` returns: SIGTERM, `GRACE_S` seconds, SIGKILL, until it returns none that live.

    It is asked twice: one whose parent ends while the list is made is missing from it.
    """
    deadline = time.monotonic() + GRACE_S
    for process in processes():
        _signal_if_alive(process, signal.SIGTERM)
    seen_none = 0
    while seen_none < 2:
        living = psutil.wait_procs(processes(), timeout=0)[1]
        seen_none = 0 if living else seen_none + 1
        if time.monotonic() > deadline:
            for process in living:
                _signal_if_alive(process, signal.SIGKILL)
        time.sleep(0.1)


def _signal_if_alive(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def memory_kills() -> int:
    """Return how many processes this machine has killed for want of memory since it started, whosever they were."""
    fields = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return next((int(value) for name, value in fields if name == "oom_kill"), 0)


def segments_since(seconds: float) -> list[Path]:
    """Return the segments in shared memory that are named as a run's and younger than `seconds` since 1970."""
    found = []
    for segment in (path for pattern in SEGMENTS for path in Path("/dev/shm").glob(pattern)):
        try:
            if segment.stat().st_mtime >= seconds:
                found.append(segment)
        except FileNotFoundError:
            continue
    return found


def remove_shared_memory(segments: Iterable[Path]) -> None:
    """Remove those of `segments` that no living process maps; a killed process cannot unlink its own."""
    mapped: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped.update(line.split()[-1] for line in maps.read_text().splitlines() if "/dev/shm/" in line)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    for segment in segments:
        if str(segment) not in mapped:
            segment.unlink(missing_ok=True)
