"""Starts verl in a process group of its own, forwards signals, and knows how it ended."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.tracking import Run, last_checkpoint

GRACE_S = 6.0
"""Seconds that processes get to end by themselves before they are killed."""

STOP_FILE = "GUIDELINES_STOP_FILE"
"""Names, in the environment of a run's processes, the file whose appearance asks them to save and stop."""

SEGMENTS = ("psm_*", "verl_weights_*", "sem.loky-*")
"""Names under /dev/shm of what Python, verl and joblib (in vLLM's engine) leave there when they are killed."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: MLflow's word for it: FINISHED, FAILED or KILLED.
        reason: one sentence.
    """

    status: str
    reason: str

    @property
    def exit_code(self) -> int:
        """The entry point's exit code for this end."""
        return {"FINISHED": 0, "FAILED": 1, "KILLED": 130}[self.status]


class Training:
    """One attempt at a run: verl's processes, their log and the journal of the steps.

    Attributes:
        log: everything that verl, Ray and vLLM print.
        journal: one JSON line a step, `{"step": int, "data": {metric: value}}`, written by verl's file logger.
        module: what is run in verl's process.
    """

    module = "guidelines_core.rl_loop"

    def __init__(self, config: DictConfig, run: Run) -> None:
        self._config = config
        self._run = run
        folder = run.directory / "logs"
        folder.mkdir(exist_ok=True)
        attempt = len(list(folder.glob("attempt-*.log"))) + 1
        self.log = folder / f"attempt-{attempt}.log"
        self.journal = folder / f"attempt-{attempt}.jsonl"
        self._config_file = folder / f"attempt-{attempt}.yaml"
        OmegaConf.save(config, self._config_file)
        self.log.touch()
        self.journal.touch()
        self._stop_file = folder / f"attempt-{attempt}.stop"
        self._stop_deadline = 0.0
        self._read = 0
        self._signal: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start verl; from now on its processes end with this one."""
        _adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)
        environment = {
            **os.environ,
            **dict(self._config.guidelines.environment),
            "MLFLOW_TRACKING_URI": self._run.claim.tracking_uri,
            "MLFLOW_RUN_ID": self._run.claim.run_id,
            "VERL_FILE_LOGGER_PATH": str(self.journal),
            STOP_FILE: str(self._stop_file),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(self._config_file)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _remember(self, number: int, frame: object) -> None:
        self._signal = number
        if number == signal.SIGTERM:
            self._stop_file.touch()
            self._stop_deadline = time.monotonic() + self._config.guidelines.stop_within_s

    @property
    def running(self) -> bool:
        """Whether verl is at work and may go on: after SIGTERM to the end of its step, after Ctrl-C not at all."""
        if self._process is None or self._process.poll() is not None:
            return False
        stopping = self._signal == signal.SIGTERM and time.monotonic() < self._stop_deadline
        return self._signal is None or stopping

    def new_steps(self) -> Iterator[dict[str, Any]]:
        """Yield the journal's entries that were written since the last call."""
        with self.journal.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                yield json.loads(line)

    def end(self) -> Outcome:
        """End whatever still runs and return how the attempt ended."""
        code = self._process.poll() if self._process else None
        end_descendants()
        remove_shared_memory(self._started_segments())
        total = self._config.trainer.total_training_steps
        saved = last_checkpoint(self._run.directory)
        if code == 0 and (self._config.trainer.save_freq <= 0 or saved == total):
            return Outcome("FINISHED", f"all {total} steps done")
        if self._signal is not None:
            return Outcome("KILLED", f"stopped by {signal.Signals(self._signal).name}, saved at step {saved}")
        if code != 0:
            return Outcome("FAILED", f"verl ended with exit code {code}: {failure_line(self.log)}")
        return Outcome("FAILED", f"verl ended without error at checkpoint {saved} of {total} steps")

    def _started_segments(self) -> list[Path]:
        """Return the shared-memory segments younger than this attempt."""
        started = self._config_file.stat().st_mtime
        segments = [segment for pattern in SEGMENTS for segment in Path("/dev/shm").glob(pattern)]
        return [segment for segment in segments if segment.stat().st_mtime >= started]


def _adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none escapes `end`.

    Ray's and vLLM's processes start sessions of their own; the kernel's child subreaper (prctl 36) keeps them
    in this process's tree.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(36, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def end_descendants() -> None:
    """End every descendant of this process: SIGTERM, `GRACE_S` seconds, SIGKILL."""
    deadline = time.monotonic() + GRACE_S
    for process in psutil.Process().children(recursive=True):
        _signal_if_alive(process, signal.SIGTERM)
    while living := _living():
        if time.monotonic() > deadline:
            for process in living:
                _signal_if_alive(process, signal.SIGKILL)
        time.sleep(0.1)


def _living() -> list[psutil.Process]:
    """Return the descendants that have not ended; those that have are reaped."""
    found = psutil.Process().children(recursive=True)
    return list(psutil.wait_procs(found, timeout=0)[1])


def _signal_if_alive(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def remove_shared_memory(segments: list[Path]) -> None:
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


def failure_line(log: Path) -> str:
    """Return the log's last line that names an exception, for a reason that can be read at a glance."""
    lines = log.read_text(errors="replace").splitlines()
    named = [line for line in lines if "Error" in line.split(":")[0].split(" ")[-1] or "Error:" in line]
    return (named or lines or ["the log is empty"])[-1].strip()[:500]
