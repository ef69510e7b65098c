"""The trainer of a sweep: verl's processes, which measure one trial after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig

from guidelines_core.launch.processes import alive
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.training import Outcome, PrelaunchedDriver, Training
from sweeps.channel import COMMANDS, EVENTS, FOLDER, Lines
from sweeps.failures import TrialFailedError
from sweeps.leftovers import WORKER, identity
from sweeps.record import Record

POLL_S = 0.02
START_S = 1200.0
"""The longest time for a trainer's start, in seconds."""

ENGINES = ("ray::vLLM", "VLLM::")
"""Prefixes of the engines' process titles."""


class TrainerProcess(Training):
    """verl's processes, started once for many trials.

    Attributes:
        cold: the cold values of its launch (`Space.cold`).
        ready_s: seconds from its start until it accepted trials.
        module: the module that runs in the driver process.
    """

    module = "sweeps.warm"
    # Its start has its own limit, and its steps are recorded in the trials' journals.
    watches_start = False

    def __init__(self, config: DictConfig, cold: Any, record: Record, folder: Path) -> None:
        folder.mkdir(parents=True)
        os.environ[FOLDER], os.environ[WORKER] = str(folder), identity(psutil.Process())
        super().__init__(config, record.trainer(folder), PrelaunchedDriver(config, self.module), StopRequests())
        self.cold = cold
        self.folder = folder
        self.commands, self.events = Lines(folder / COMMANDS), Lines(folder / EVENTS)
        self.ready_s = 0.0
        self._engines: list[psutil.Process] = []

    def launch(self) -> None:
        """Start the trainer and wait until it accepts trials.

        Raises:
            TrialFailedError: it ended, or took longer than `START_S`.
        """
        began = time.monotonic()
        self._stop.__enter__()
        self.start()
        for _ in self.ticks():
            if self.events.new():
                break
            if time.monotonic() - began > START_S:
                raise TrialFailedError(f"timeout: the trainer was not ready after {START_S:.0f} s")
        self.ready_s = time.monotonic() - began
        self._engines = [process for process in psutil.Process().children(recursive=True) if is_engine(process)]

    def end(self) -> Outcome:
        """End the trainer, remove its files, and restore the signal handlers."""
        outcome = super().end()
        self._stop.__exit__()
        return outcome

    def ticks(self) -> Iterator[None]:
        """Yield every `POLL_S` seconds while the trainer and its engines are running.

        Raises:
            TrialFailedError: the trainer or an engine ended.
            KeyboardInterrupt: the user asked to stop.
        """
        last_check = time.monotonic()
        while True:
            yield
            if self._stop.last is not None:
                raise KeyboardInterrupt
            if not self.running:
                raise TrialFailedError(f"the trainer ended: {self.failure()}")
            if time.monotonic() - last_check > 1:
                last_check = time.monotonic()
                lost = [engine.pid for engine in self._engines if not alive(engine)]
                if lost:
                    raise TrialFailedError(f"process {lost[0]} of an engine ended")
            time.sleep(POLL_S)


def is_engine(process: psutil.Process) -> bool:
    """Return whether a process belongs to an engine."""
    try:
        return " ".join(process.cmdline()).startswith(ENGINES)
    except psutil.Error:
        return False
