"""Finds and ends the processes of a run.

Ray's and vLLM's processes start their own sessions, so a signal to a process group does not reach all of them. Each has
its attempt's folder in its environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

from guidelines_core.launch import shared_memory
from guidelines_core.runs.start import FOLDER

GRACE_S = 6.0
"""Seconds that processes get to end by themselves before they are killed."""

TEMPORARY = "guidelines-"
"""The prefix of an attempt's folder."""

FOLDER_OF_ATTEMPT = ".folder"
"""The suffix of the file, among a run's logs, that names an attempt's folder and the run's directory."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 36, 37


def adopts_orphans() -> bool:
    """Return whether this process becomes the parent of descendants whose own parent ends."""
    adopts = ctypes.c_int()
    _prctl(PR_GET_CHILD_SUBREAPER, ctypes.addressof(adopts))
    return bool(adopts.value)


def adopt_orphans(adopt: bool = True) -> None:
    """Make this process the parent of every descendant whose parent ends, so that it can end all of them."""
    _prctl(PR_SET_CHILD_SUBREAPER, int(adopt))


def end_with(parent: int, number: int) -> None:
    """Ask the kernel to send signal `number` to this process when its parent, process `parent`, ends."""
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def end_descendants() -> None:
    """End every descendant of this process."""
    end(lambda: psutil.Process().children(recursive=True))


def of_attempts(folders: Collection[str]) -> list[psutil.Process]:
    """Return the processes, other than this one, with one of these attempts' folders in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(FOLDER) in folders:
                found.append(process)
        except psutil.Error:
            continue
    return found


def note_folder(run: Path, attempt: str, folder: Path) -> None:
    """Record an attempt's folder among the logs of `run`."""
    (run / "logs" / f"{attempt}{FOLDER_OF_ATTEMPT}").write_text(f"{folder}\n{_identity(run)}\n")


def attempt_folders(run: Path) -> list[Path]:
    """Return the folders of the attempts of `run`; none for a copy of its directory."""
    lines = [file.read_text().splitlines() for file in sorted((run / "logs").glob(f"*{FOLDER_OF_ATTEMPT}"))]
    # Older runs have one line, without the directory's identity.
    return [Path(line[0]) for line in lines if line and (len(line) == 1 or line[1] == _identity(run))]


def _identity(directory: Path) -> str:
    """Return an identity that a moved directory keeps and a copy does not have."""
    return str(directory.stat().st_ino)


def leftovers(run: Path) -> list[psutil.Process]:
    """Return the processes that are left of a run's attempts, for the holder of the lock of its directory, `run`."""
    return of_attempts({str(folder) for folder in attempt_folders(run)})


def clear(folders: Collection[Path]) -> tuple[int, int]:
    """End the processes of attempts by their folders, remove their shared memory and the folders.

    Returns how many processes and how many segments there were.
    """
    names = {str(folder) for folder in folders}
    left = of_attempts(names)
    segments = shared_memory.mapped(left).union(*map(shared_memory.recorded, folders))
    end(lambda: of_attempts(names))
    gone = shared_memory.remove(segments)
    for folder in folders:
        assert folder.name.startswith(TEMPORARY), f"{folder} is no attempt's folder"
        shutil.rmtree(folder, ignore_errors=True)
    return len(left), len(gone)


def end_tree(root: psutil.Process) -> None:
    """End a process and its descendants, also those whose parent ends first."""
    seen = {root}

    def family() -> list[psutil.Process]:
        for process in list(seen):
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.update(process.children(recursive=True))
        return list(seen)

    end(family)


def end(processes: Callable[[], list[psutil.Process]]) -> None:
    """End what `processes` returns: SIGTERM, `GRACE_S` seconds, SIGKILL, until none is left.

    It must return none twice: a process whose parent ends during the listing is missing from the list.
    """
    deadline = time.monotonic() + GRACE_S
    seen = set(processes())
    for process in seen:
        _signal_if_alive(process, signal.SIGTERM)
    seen_none = 0
    while seen_none < 2:
        seen.update(processes())
        # It collects the exit status of this process's children, so that none stays a zombie.
        living = [process for process in psutil.wait_procs(seen, timeout=0)[1] if alive(process)]
        seen_none = 0 if living else seen_none + 1
        if time.monotonic() > deadline:
            for process in living:
                _signal_if_alive(process, signal.SIGKILL)
        time.sleep(0.1)


def alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_if_alive(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def memory_kills() -> int:
    """Return how many processes this machine has killed for lack of memory since it started."""
    fields = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return next((int(value) for name, value in fields if name == "oom_kill"), 0)
