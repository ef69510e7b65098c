"""Does a start go on? Ends one whose stage makes no progress, and says what it waits for."""

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
"""The last stage: from the trainer's first moment to its first step's record."""

LOOK_S = 30.0
"""Seconds between two looks at what a start has done."""

CORES, BYTES_A_S = 0.1, 1e6
"""The work of a start that goes on, between two looks: cores in use, or bytes read in a second. A start of `tiny` whose
Ray cluster had one CPU too few did less, for 90 s on two busy cores."""

STAGES_FILE = "stages"
"""The file, in an attempt's folder, that lists the stages that have ended."""

WAITS = "waits"
"""The file, in an attempt's folder, that says what Ray has not placed yet (`pending.py`)."""

CLOCK = re.compile(r"\d+[-:]\d+([-:]\d+)?([.,]\d+)?|\(autoscaler \+[\w ]+\)")
"""What differs in a line that is said again and again."""


@dataclass(frozen=True)
class Work:
    """What a start has done since it began.

    Attributes:
        cpu_s: seconds of CPU time.
        bytes_read: from files and pipes.
        lines: different lines in the log.
    """

    cpu_s: float
    bytes_read: int
    lines: int


@dataclass
class Progress:
    """How long a start has been in its stage, and without progress.

    Attributes:
        stage: the stage's name on the terminal.
        stage_s: seconds since it began.
        idle_s: seconds since there was progress.
        work: what was done by the last look.
    """

    stage: str
    work: Work
    stage_s: float = 0.0
    idle_s: float = 0.0

    def goes_on(self, seconds: float, stage: str, work: Work) -> None:
        """Take a look, `seconds` after the last one."""
        before, self.work = self.work, work
        works = (
            work.cpu_s - before.cpu_s >= CORES * seconds
            or work.bytes_read - before.bytes_read >= BYTES_A_S * seconds
            or work.lines > before.lines
        )
        self.stage_s = 0.0 if stage != self.stage else self.stage_s + seconds
        self.idle_s = 0.0 if works or stage != self.stage else self.idle_s + seconds
        self.stage = stage

    def too_long(self, limits: DictConfig) -> str | None:
        """Return which of the limits (`guidelines.start`) is reached, as a sentence; None if none is."""
        key = "guidelines.start"
        if self.idle_s >= limits.stalled_s:
            return (
                f"the start stands still: its stage {self.stage!r} made no progress for {self.idle_s:.0f} s "
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
        self._said: set[str] = set()
        self._read_to = 0
        self._looked = time.monotonic()
        self._progress = Progress(self.stage, self._work())

    @property
    def stage(self) -> str:
        """The stage that goes on, by its name on the terminal."""
        ended = ended_stages(self._folder / STAGES_FILE) | {"preflight"}
        return next((name for stage, name in STAGES.items() if stage not in ended), FIRST_STEP)

    @property
    def stands_still(self) -> bool:
        """Whether nothing went on between the last two looks."""
        return self._progress.idle_s > 0

    def look(self) -> str | None:
        """Look again if it is time; return why the start is given up, None if it goes on."""
        every = min(LOOK_S, self._limits.stalled_s / 4)
        seconds = time.monotonic() - self._looked
        if seconds < every:
            return None
        self._looked = time.monotonic()
        # A process that was stopped itself has seen nothing meanwhile.
        self._progress.goes_on(min(seconds, 2 * every), self.stage, self._work())
        reason = self._progress.too_long(self._limits)
        if reason is None:
            return None
        waits = self._folder / WAITS
        return f"{reason}{'; Ray waits for ' + text if waits.exists() and (text := waits.read_text()) else ''}"

    def _work(self) -> Work:
        for process in self._processes():
            try:
                times, counters = process.cpu_times(), process.io_counters()
            except psutil.Error:
                continue
            self._cpu[process.pid] = times.user + times.system
            self._read[process.pid] = counters.read_chars + counters.read_bytes
        self._read_log()
        return Work(sum(self._cpu.values()), sum(self._read.values()), len(self._said))

    def _read_log(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            for line in log:
                self._read_to += len(line)
                self._said.add(CLOCK.sub("", line.decode(errors="replace")))
