"""Detects a start whose stage makes no progress, and reports what the stage waits for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import psutil
from omegaconf import DictConfig

from guidelines_core.runs.start import STAGES, ended_stages

FIRST_STEP = "first step"
"""The last stage: from the trainer's first moment until its first step is recorded."""

CHECK_S = 30.0
"""Seconds between two checks of a start."""

CORES, BYTES_A_S = 0.1, 1e6
"""Progress between two checks is at least so many cores in use, or so many bytes read in a second. A start of `tiny`
whose Ray cluster had one CPU too few stayed below both for 90 s on two busy cores."""

STAGES_FILE = "stages"
"""The file, in an attempt's folder, that lists the stages that have ended."""

PENDING_FILE = "pending"
"""The file, in an attempt's folder, that lists what Ray has not placed yet (`pending.py`)."""

CLOCK = re.compile(r"\d+[-:]\d+([-:]\d+)?([.,]\d+)?|\(autoscaler \+[\w ]+\)")
"""Matches the times in a line of the log; lines that differ only in these count as one."""


@dataclass(frozen=True)
class Work:
    """The work of a start since it began.

    Attributes:
        cpu_s: CPU time, in seconds.
        bytes_read: bytes read from files and pipes.
        lines: distinct lines in the log.
    """

    cpu_s: float
    bytes_read: int
    lines: int


@dataclass
class Progress:
    """How long a start has been in its stage, and without progress.

    Attributes:
        stage: the stage's name on the terminal.
        stage_s: seconds since the stage began.
        idle_s: seconds since the last progress.
        work: the work up to the last check.
    """

    stage: str
    work: Work
    stage_s: float = 0.0
    idle_s: float = 0.0

    def update(self, seconds: float, stage: str, work: Work) -> None:
        """Record the stage and the work so far, `seconds` after the last update."""
        before, self.work = self.work, work
        progressed = (
            work.cpu_s - before.cpu_s >= CORES * seconds
            or work.bytes_read - before.bytes_read >= BYTES_A_S * seconds
            or work.lines > before.lines
        )
        self.stage_s = 0.0 if stage != self.stage else self.stage_s + seconds
        self.idle_s = 0.0 if progressed or stage != self.stage else self.idle_s + seconds
        self.stage = stage

    def reached_limit(self, limits: DictConfig) -> str | None:
        """Return a sentence that names the limit (`guidelines.start`) that is reached; None if none is."""
        key = "guidelines.start"
        if self.idle_s >= limits.stalled_s:
            return (
                f"the start is stalled: its stage {self.stage!r} made no progress for {self.idle_s:.0f} s "
                f"({key}.stalled_s={limits.stalled_s:g})"
            )
        if self.stage_s >= limits.stage_s:
            return (
                f"the start takes too long: its stage {self.stage!r} has lasted {self.stage_s:.0f} s "
                f"({key}.stage_s={limits.stage_s:g})"
            )
        return None


class StartWatch:
    """Watches one attempt's start, until its first step is recorded.

    Args:
        limits: the section `guidelines.start`.
        folder: the attempt's folder for everything temporary.
        log: the attempt's log.
        processes: returns the attempt's living processes.
    """

    def __init__(
        self, limits: DictConfig, folder: Path, log: Path, processes: Callable[[], Collection[psutil.Process]]
    ) -> None:
        self._limits = limits
        self._folder = folder
        self._log = log
        self._processes = processes
        self._cpu: dict[int, float] = {}
        self._read: dict[int, int] = {}
        self._distinct_lines: set[str] = set()
        self._log_position = 0
        self._last_check = time.monotonic()
        self._progress = Progress(self.stage, self._work())

    @property
    def stage(self) -> str:
        """The current stage, by its name on the terminal."""
        ended = ended_stages(self._folder / STAGES_FILE) | {"preflight"}
        return next((name for stage, name in STAGES.items() if stage not in ended), FIRST_STEP)

    @property
    def stalled(self) -> bool:
        """Whether there was no progress between the last two checks."""
        return self._progress.idle_s > 0

    def check(self) -> str | None:
        """Check if it is time for it; return why the start is to be ended, None if it may continue."""
        every = min(CHECK_S, self._limits.stalled_s / 4)
        seconds = time.monotonic() - self._last_check
        if seconds < every:
            return None
        self._last_check = time.monotonic()
        # While this process itself was stopped, it could not observe any progress.
        self._progress.update(min(seconds, 2 * every), self.stage, self._work())
        reason = self._progress.reached_limit(self._limits)
        if reason is None:
            return None
        pending = self._folder / PENDING_FILE
        text = pending.read_text() if pending.exists() else ""
        return f"{reason}; Ray waits for {text}" if text else reason

    def _work(self) -> Work:
        """Return the work so far, ended processes included."""
        for process in self._processes():
            try:
                times, counters = process.cpu_times(), process.io_counters()
            except psutil.Error:
                continue
            self._cpu[process.pid] = times.user + times.system
            self._read[process.pid] = counters.read_chars + counters.read_bytes
        self._read_log()
        return Work(sum(self._cpu.values()), sum(self._read.values()), len(self._distinct_lines))

    def _read_log(self) -> None:
        """Read the new lines of the log."""
        with self._log.open("rb") as log:
            log.seek(self._log_position)
            for line in log:
                self._log_position += len(line)
                self._distinct_lines.add(CLOCK.sub("", line.decode(errors="replace")))
