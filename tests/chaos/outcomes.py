"""Shared by the rows of `faults.py` and `pressure.py`: the results of a run, and a disk of its own."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.chaos.loop import SAVE_FREQ, Loop, differences, final_metrics

Row = dict[str, Any]
"""One row's results, by the names in the JSON."""


def unbroken(folder: Path) -> dict[str, dict[int, float]]:
    """Return the metrics of a run without a fault."""
    shutil.rmtree(folder, ignore_errors=True)
    loop = Loop(folder)
    try:
        loop.start()
        if loop.wait() != 0:
            raise RuntimeError(f"the unbroken run failed: {folder / 'said.log'}")
    finally:
        loop.end()
    return final_metrics(loop)


def resumed(loop: Loop, expected: Any, code: int, happened: object = True, may_lose: int = SAVE_FREQ) -> Row:
    """Return the results of a run that just ended with exit code `code`, and of the same run resumed to its end."""
    left = loop.leftovers()
    status, reason, done = loop.status, loop.reason, loop.steps_done()
    halves = loop.unsealed()
    starts = loop.finish()
    refused = all(map(loop.refused, halves))
    differing = differences(final_metrics(loop), expected) if starts else ["not finished"]
    # If the run's own process was killed, the next start records the end first. A run that lost only its solver
    # restarts it and continues.
    truthful = {0: status == "FINISHED", -signal.SIGKILL: status != "FINISHED"}.get(
        code, status in ("FAILED", "KILLED")
    )
    lost = done - (loop.goes_on_from(2) if status != "FINISHED" else done)
    as_it_should = starts == 1 and not left and not differing and truthful and refused and lost <= may_lose
    return {
        "exit_code": code,
        "status": status,
        "reason": reason,
        "steps_lost": lost,
        "leftovers": left,
        "half_checkpoints": halves,
        "recovered": starts > 0 and loop.status == "FINISHED",
        "attempts_to_finish": starts,
        "differing_metrics": differing,
        "passed": bool(happened) and as_it_should,
    }


def undisturbed(loop: Loop, expected: Any, code: int) -> Row:
    """Return the results of a run that the fault should not affect."""
    differing = differences(final_metrics(loop), expected)
    client = MlflowClient(loop.uri)
    twice = [name for name in expected if len(client.get_metric_history(loop.run_id, name)) > len(expected[name])]
    passed = code == 0 and loop.status == "FINISHED" and not differing and not twice
    return {
        "exit_code": code,
        "status": loop.status,
        "steps_lost": 0,
        "leftovers": [],
        "recovered": code == 0,
        "differing_metrics": differing,
        "recorded_twice": twice,
        "passed": passed,
    }


@contextlib.contextmanager
def own_disk(loop: Loop) -> Iterator[Path]:
    """Mount a disk of 512 MB for the run's checkpoint directory, and return its folder; needs root."""
    disk = loop.folder / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=512m", "tmpfs", str(disk))
    try:
        loop.directory = disk / "run"
        yield disk
    finally:
        # Whatever failed: a disk in use cannot be unmounted.
        loop.end()
        subprocess.run(["umount", str(disk)], check=True)


def fill(file: Path) -> None:
    """Write zeros to `file` until its disk is full, whatever others write there meanwhile."""
    zeros = bytes(1 << 20)
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(zeros)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def resize(disk: Path, size: str) -> None:
    """Give a mounted disk another size, such as `2g`."""
    mount("-o", f"remount,size={size}", str(disk))


def mount(*words: str) -> None:
    """Mount; the exception has the reason of a failure."""
    subprocess.run(["mount", *words], check=True)
