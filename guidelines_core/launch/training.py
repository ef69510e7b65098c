"""Starts verl in its own process group, forwards signals to it and reports how it ended."""

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
from guidelines_core.launch.environment import of_run, own_cluster, temporary_root
from guidelines_core.launch.start_watch import FIRST_STEP, STAGES_FILE, StartWatch
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.supervisor import PARENT
from guidelines_core.paths import ROOT
from guidelines_core.runs.checkpoints import last_checkpoint
from guidelines_core.runs.journal import STEP, STOP_FILE, Journal
from guidelines_core.runs.start import STAGES_PATH, Start
from guidelines_core.runs.tracking import Run

ACTOR = re.compile(r"\x1b\[\d+m(\([^)]*\)\x1b\[0m )?")
"""Matches the prefix, with colors, that Ray adds to a line of another process."""

FULL_BYTES = 16 * 2**20
"""Free bytes below which a disk counts as full, since a checkpoint does not fit on it."""


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
    """A driver process that starts before preflight, imports verl and waits for `train`.

    Until then it uses no GPU, port or file of the run. It ends with this process.

    Attributes:
        folder: the attempt's folder for temporary files; `end` removes it.
        process: the supervisor, which runs the driver.
        start: the stages of the start so far.
    """

    def __init__(
        self, config: DictConfig, module: str = "guidelines_core.launch.driver", launched_at: float | None = None
    ) -> None:
        """Start `module` under the supervisor; its processes end with this one.

        `launched_at` is the time of the run's launch, in seconds since 1970; by default now.
        """
        self.start = Start(time.time() if launched_at is None else launched_at)
        self._ended = False
        self._adopted_before = processes.adopts_orphans()
        processes.adopt_orphans()
        self.folder = Path(tempfile.mkdtemp(prefix=processes.TEMPORARY, dir=temporary_root()))
        self._segments = shared_memory.Watch(self.folder, self.processes)
        composed = self.folder / "composed.yaml"
        OmegaConf.save(config, composed)
        environment = {**of_run(config, self.folder), PARENT: str(os.getpid())}
        # An unnamed file stays readable when the driver ends, and needs no removal.
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
        """Send the driver its job; does nothing if the driver has ended.

        Args:
            config: the file of the configuration to train.
            log: the file to which the driver redirects its output.
            environment: variables to add to the driver's environment.
        """
        line = {"config": str(config), "log": str(log), "environment": environment}
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def processes(self) -> list[psutil.Process]:
        """Return the driver's processes that are alive."""
        return processes.of_attempts({str(self.folder)})

    def end(self) -> None:
        """End the driver's processes, remove their files, and stop adopting orphans if this process did not before.

        A second call does nothing.
        """
        if self._ended:
            return
        self._segments.scan()
        processes.clear([self.folder])
        self.process.wait()
        processes.adopt_orphans(self._adopted_before)
        self._ended = True

    def output(self) -> str:
        """Return the driver's output from before `train`."""
        self._output.seek(0)
        return self._output.read()


class Training:
    """One attempt at a run: verl's processes, their log and the journal of the steps.

    Attributes:
        attempt: its number, counted from 1.
        log: all output of verl, Ray and vLLM.
        journal: one JSON line a step, `{"step": int, "data": {metric: value}}`, written by verl's file logger.
        watches_start: whether a start without progress is ended.
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
        self._launched = False
        self._start_watch: StartWatch | None = None
        self._abort_reason: str | None = None

    def start(self) -> None:
        """Start verl, unless a stop signal has arrived already."""
        if self._stop.last is not None:
            return
        self._launched = True
        self._driver.start.ends("preflight")
        self._driver.train(
            self._config_file,
            self.log,
            {
                "MLFLOW_TRACKING_URI": self._run.claim.tracking_uri,
                "VERL_FILE_LOGGER_PATH": str(self.journal),
                STOP_FILE: str(self._stop_file),
                STAGES_PATH: str(self._driver.folder / STAGES_FILE),
                **self._driver.start.environment(),
                **energy.environment(),
            },
        )
        # The processes on another cluster are not this run's to look at.
        if self.watches_start and own_cluster(self._config):
            limits, folder = self._config.guidelines.start, self._driver.folder
            self._start_watch = StartWatch(limits, folder, self.log, self._driver.processes)

    @property
    def running(self) -> bool:
        """Whether verl is running and may continue.

        After SIGTERM or SIGHUP a step under way has `stop_within_s` seconds to end and be saved. Ctrl-C, and a start
        without progress, end the attempt at once.
        """
        if not self._launched or self._driver.process.poll() is not None:
            return False
        if self._start_watch is not None:
            self._abort_reason = self._start_watch.check()
            if self._abort_reason is not None:
                return False
        if self._stop.last is None:
            return True
        if not self._stop.finish_step:
            return False
        if self._start_watch is not None and (self._start_watch.stage != FIRST_STEP or self._start_watch.stalled):
            return False
        if self._stop_deadline is None:
            self._stop_file.touch()
            self._stop_deadline = time.monotonic() + self._config.guidelines.stop_within_s
        return time.monotonic() < self._stop_deadline

    def new_steps(self) -> list[dict[str, Any]]:
        """Return the journal's lines since the last call, as verl wrote them; the first step's line ends the start."""
        lines = self._lines.new()
        if any(STEP in line["data"] for line in lines):
            self._start_watch = None
        return lines

    def failure(self) -> str:
        """Return the line of the log that names the cause of verl's end; fill an empty log with the driver's output."""
        if self.log.stat().st_size == 0:
            self.log.write_text(self._driver.output())
        return failure_line(self.log)

    def end(self) -> Outcome:
        """End all processes of the attempt, remove their files, and return how the attempt ended."""
        code = self._driver.process.poll()
        self._driver.end()
        total = self._config.trainer.total_training_steps
        saved = last_checkpoint(self._run.directory)
        if code == 0 and (self._config.trainer.save_freq <= 0 or saved == total):
            return Outcome("FINISHED", f"all {total} steps done")
        if self._stop.last is not None:
            return Outcome("KILLED", f"stopped by {signal.Signals(self._stop.last).name}, saved at step {saved}")
        if self._abort_reason is not None:
            return Outcome("FAILED", f"{self._abort_reason}; the log ends with: {last_line(self.log)}")
        if code != 0:
            killed = processes.memory_kills() - self._kills_before
            memory = f"; the machine ran out of memory and killed {killed} processes meanwhile" if killed else ""
            # The log is on the same disk, so the error is missing there.
            disk = f"the disk of {self._run.directory} is full; " if is_full(self._run.directory) else ""
            return Outcome("FAILED", f"{disk}verl {exit_text(code)}: {self.failure()}{memory}")
        return Outcome("FAILED", f"verl ended without error at checkpoint {saved} of {total} steps")


def is_full(folder: Path) -> bool:
    """Return whether a folder's disk has less than `FULL_BYTES` free; False if the folder does not exist."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


def exit_text(code: int | None) -> str:
    """Return in words how a process under the supervisor ended; exit code 128 + N stands for signal N."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    if number in {each.value for each in signal.Signals}:
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}"


SYMPTOMS = re.compile(r"EngineDead|EngineGenerate|RayTask|RayActor|ActorDied|ActorUnavailable|WorkerCrashed|NodeDied")
"""Matches exceptions that report the failure of another process without its cause."""


NO_FAILURE = re.compile(r"(\([^)]*\) *)*([\d:,. -]+- )?\[?(DEBUG|INFO|WARNING)\b")
"""Matches lines that a logger wrote below the level ERROR: an exception that they name was handled."""


def last_line(log: Path) -> str:
    """Return the last nonempty line of a log, at most 300 characters; `nothing` if there is none."""
    lines = (ACTOR.sub("", line).strip() for line in reversed(log.read_text(errors="replace").splitlines()))
    return next(filter(None, lines), "nothing")[:300]


def failure_line(log: Path) -> str:
    """Return the line of the log that names the exception that ended the run, at most 800 characters.

    The first that exists of: the last exception of this project, since other processes raise exceptions when they are
    ended; the last exception that `SYMPTOMS` does not match; the last exception; the last line.
    """
    lines = [ACTOR.sub("", line).strip() for line in log.read_text(errors="replace").splitlines()]
    ours = [line for line in lines if re.match(r"guidelines_core(\.\w+)+: ", line)]
    raised = [line for line in lines if not NO_FAILURE.match(line)]
    named = [line for line in raised if "Error" in line.split(":")[0].split(" ")[-1] or "Error:" in line]
    causes = [line for line in named if not SYMPTOMS.search(line.split(": ")[0])]
    return (ours or causes or named or lines or ["the log is empty"])[-1][:800]
