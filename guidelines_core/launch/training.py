"""Starts verl in a process group of its own, forwards signals and reports how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from guidelines_core.hardware import energy
from guidelines_core.launch import processes, shared_memory
from guidelines_core.launch.environment import of_run, temporary_root
from guidelines_core.launch.start_watch import FIRST_STEP, STAGES_FILE, StartWatch
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.supervisor import PARENT
from guidelines_core.paths import ROOT
from guidelines_core.runs.checkpoints import last_checkpoint
from guidelines_core.runs.journal import STEP, STOP_FILE, Journal
from guidelines_core.runs.start import ENDED, Start
from guidelines_core.runs.tracking import Run

ACTOR = re.compile(r"\x1b\[\d+m(\([^)]*\)\x1b\[0m )?")
"""The prefix, with colors, that Ray puts before a line of another process."""

FULL_BYTES = 16 * 2**20
"""Free bytes below which a disk counts as full: a checkpoint did not fit on it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: the MLflow status: FINISHED, FAILED or KILLED.
        reason: one sentence.
    """

    status: str
    reason: str

    @property
    def exit_code(self) -> int:
        """The entry point's exit code for this end."""
        return {"FINISHED": 0, "FAILED": 1, "KILLED": 130}[self.status]


class PrelaunchedDriver:
    """A driver process started before preflight, which imports verl and waits for `train`.

    It holds no GPU, port or file of the run, and ends with this process.

    Attributes:
        folder: the attempt's folder for everything temporary; it is removed at the end.
        process: the supervisor, which runs the driver.
        start: the stages of the start so far.
    """

    def __init__(
        self, config: DictConfig, module: str = "guidelines_core.launch.driver", began: float | None = None
    ) -> None:
        """Start `module` under the supervisor; its processes end with this one.

        `began` is when the run was launched, in seconds since 1970; now unless given.
        """
        self.start = Start(time.time() if began is None else began)
        self._adopted_before = processes.adopts_orphans()
        processes.adopt_orphans()
        self.folder = Path(tempfile.mkdtemp(prefix=processes.TEMPORARY, dir=temporary_root()))
        self._segments = shared_memory.Watch(self.folder, self.processes)
        composed = self.folder / "composed.yaml"
        OmegaConf.save(config, composed)
        environment = {**of_run(config, self.folder), PARENT: str(os.getpid())}
        # A file without a name: it stays readable here when the driver ends, and leaves nothing to remove.
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "guidelines_core.launch.supervisor", sys.executable, "-m", module, str(composed)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> PrelaunchedDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def train(self, config: Path, log: Path, environment: dict[str, str]) -> None:
        """Have it train the configuration in file `config` and write to `log`; nothing happens if it has ended."""
        line = {"config": str(config), "log": str(log), "environment": environment}
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def processes(self) -> list[psutil.Process]:
        """Return its living processes."""
        return processes.of_attempts({str(self.folder)})

    def end(self) -> None:
        """End its processes, remove what they leave, and make of this process what it was before."""
        self._segments.look()
        processes.clear([self.folder])
        self.process.wait()
        processes.adopt_orphans(self._adopted_before)

    def output(self) -> str:
        """Return what it has printed before `train` gave it a log."""
        self._output.seek(0)
        return self._output.read()


class Training:
    """One attempt at a run: verl's processes, their log and the journal of the steps.

    Attributes:
        attempt: its number, from 1.
        log: all output of verl, Ray and vLLM.
        journal: one JSON line a step, `{"step": int, "data": {metric: value}}`, written by verl's file logger.
        watches_start: whether a start that does not go on is ended.
    """

    watches_start = True

    def __init__(self, config: DictConfig, run: Run, driver: PrelaunchedDriver, stop: StopRequests) -> None:
        self._config = config
        self._run = run
        self._stop = stop
        self._driver = driver
        folder = run.directory / "logs"
        folder.mkdir(exist_ok=True)
        self.attempt = len(list(folder.glob("attempt-*.log"))) + 1
        name = f"attempt-{self.attempt}"
        self.log = folder / f"{name}.log"
        self.journal = folder / f"{name}.jsonl"
        self._config_file = folder / f"{name}.yaml"
        OmegaConf.save(config, self._config_file)
        processes.note_folder(run.directory, name, driver.folder)
        self.log.touch()
        self.journal.touch()
        self._lines = Journal(self.journal)
        self._kills_before = processes.memory_kills()
        self._stop_file = folder / f"{name}.stop"
        self._stop_deadline: float | None = None
        self._started = False
        self._starting: StartWatch | None = None
        self._given_up: str | None = None

    def start(self) -> None:
        """Start verl, unless a stop was asked for already."""
        if self._stop.last is not None:
            return
        self._started = True
        self._driver.start.ends("preflight")
        self._driver.train(
            self._config_file,
            self.log,
            {
                "MLFLOW_TRACKING_URI": self._run.claim.tracking_uri,
                "VERL_FILE_LOGGER_PATH": str(self.journal),
                STOP_FILE: str(self._stop_file),
                ENDED: str(self._driver.folder / STAGES_FILE),
                **self._driver.start.environment(),
                **energy.environment(),
            },
        )
        if self.watches_start:
            limits, folder = self._config.guidelines.start, self._driver.folder
            self._starting = StartWatch(limits, folder, self.log, self._driver.processes)

    @property
    def running(self) -> bool:
        """Whether verl runs and may go on.

        After SIGTERM or SIGHUP it may for `stop_within_s`, if a step is under way; after Ctrl-C it may not, nor in a
        start that stands still.
        """
        if not self._started or self._driver.process.poll() is not None:
            return False
        if self._starting is not None:
            self._given_up = self._starting.look()
            if self._given_up is not None:
                return False
        if self._stop.last is None:
            return True
        if not self._stop.finish_step:
            return False
        if self._starting is not None and (self._starting.stage != FIRST_STEP or self._starting.stands_still):
            return False
        if self._stop_deadline is None:
            self._stop_file.touch()
            self._stop_deadline = time.monotonic() + self._config.guidelines.stop_within_s
        return time.monotonic() < self._stop_deadline

    def new_steps(self) -> list[dict[str, Any]]:
        """Return the journal's lines that were written since the last call; the first step's ends the start."""
        lines = self._lines.new()
        if any(STEP in line["data"] for line in lines):
            self._starting = None
        return lines

    def failure(self) -> str:
        """Return the log's line that names what ended verl; an empty log gets the driver's earlier output first."""
        if self.log.stat().st_size == 0:
            self.log.write_text(self._driver.output())
        return failure_line(self.log)

    def end(self) -> Outcome:
        """End whatever still runs, clear up, and return how the attempt ended."""
        code = self._driver.process.poll()
        self._driver.end()
        total = self._config.trainer.total_training_steps
        saved = last_checkpoint(self._run.directory)
        if code == 0 and (self._config.trainer.save_freq <= 0 or saved == total):
            return Outcome("FINISHED", f"all {total} steps done")
        if self._stop.last is not None:
            return Outcome("KILLED", f"stopped by {signal.Signals(self._stop.last).name}, saved at step {saved}")
        if self._given_up is not None:
            return Outcome("FAILED", f"{self._given_up}; the log ends with: {last_line(self.log)}")
        if code != 0:
            killed = processes.memory_kills() - self._kills_before
            memory = f"; the machine ran out of memory and killed {killed} processes meanwhile" if killed else ""
            # The log lies on the same disk, so it cannot say so.
            disk = f"the disk of {self._run.directory} is full; " if is_full(self._run.directory) else ""
            return Outcome("FAILED", f"{disk}verl {exit_text(code)}: {self.failure()}{memory}")
        return Outcome("FAILED", f"verl ended without error at checkpoint {saved} of {total} steps")


def is_full(folder: Path) -> bool:
    """Say whether a folder's disk is full; one that is gone is not."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


def exit_text(code: int | None) -> str:
    """Say how a process ended that was started through the supervisor: 128 + N stands for signal N."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    if number in {each.value for each in signal.Signals}:
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}"


SYMPTOMS = re.compile(r"EngineDead|EngineGenerate|RayTask|RayActor|ActorDied|ActorUnavailable|WorkerCrashed|NodeDied")
"""In the names of exceptions that say that another process failed, and not why."""


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = (ACTOR.sub("", line).strip() for line in reversed(log.read_text(errors="replace").splitlines()))
    return next(filter(None, lines), "nothing")[:300]


def failure_line(log: Path) -> str:
    """Return the log's line that names the exception that ended the run, for a reason that can be read at a glance.

    It is the last one that is ours, for other processes complain as they are ended; else the last one that is no mere
    symptom of another; else the last one of all.
    """
    lines = [ACTOR.sub("", line).strip() for line in log.read_text(errors="replace").splitlines()]
    ours = [line for line in lines if re.match(r"guidelines_core(\.\w+)+: ", line)]
    named = [line for line in lines if "Error" in line.split(":")[0].split(" ")[-1] or "Error:" in line]
    causes = [line for line in named if not SYMPTOMS.search(line.split(": ")[0])]
    return (ours or causes or named or lines or ["the log is empty"])[-1][:800]
