"""The trainer of a sweep: verl's processes, kept from trial to trial, and how their end is noticed."""

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
from sweeps.failures import Failed
from sweeps.leftovers import WORKER, identity
from sweeps.record import Record

POLL_S = 0.02
START_S = 1200.0
"""Seconds that a trainer may take to be ready."""

ENGINES = ("ray::vLLM", "VLLM::")
"""Prefixes of the engines' process titles."""


class TrainerProcess(Training):
    """verl's processes, measuring trial after trial.

    Attributes:
        cold: the cold values that it was started with.
        ready_s: seconds from its start until it took trials.
        module: what is run in verl's process.
    """

    module = "sweeps.warm"
    # Its start has a limit of its own, and its steps go to the trials' journals.
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
        """Start it and wait until it takes trials.

        Raises:
            Failed: it ended, or took longer than `START_S`.
        """
        began = time.monotonic()
        self._stop.__enter__()
        self.start()
        for _ in self.ticks():
            if self.events.new():
                break
            if time.monotonic() - began > START_S:
                raise Failed(f"timeout: the trainer was not ready after {START_S:.0f} s")
        self.ready_s = time.monotonic() - began
        self._engines = [process for process in psutil.Process().children(recursive=True) if is_engine(process)]

    def end(self) -> Outcome:
        """End it, clear up, and leave signals to whom they went before."""
        outcome = super().end()
        self._stop.__exit__()
        return outcome

    def ticks(self) -> Iterator[None]:
        """Yield every `POLL_S` seconds as long as all is well.

        Raises:
            Failed: the trainer or an engine ended.
            KeyboardInterrupt: the user asked to stop.
        """
        looked = time.monotonic()
        while True:
            yield
            if self._stop.last is not None:
                raise KeyboardInterrupt
            if not self.running:
                raise Failed(f"the trainer ended: {self.failure()}")
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                lost = [engine.pid for engine in self._engines if not alive(engine)]
                if lost:
                    raise Failed(f"process {lost[0]} of an engine ended")
            time.sleep(POLL_S)


def is_engine(process: psutil.Process) -> bool:
    """Say whether a process is an engine's."""
    try:
        return " ".join(process.cmdline()).startswith(ENGINES)
    except psutil.Error:
        return False
