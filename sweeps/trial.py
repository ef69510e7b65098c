"""A trial as the sweep sees it: a trainer kept as long as it can be, a watchdog, and a cause for each failure."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import changed
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.launch.attempt import Launch, attempt_config
from guidelines_core.launch.processes import alive
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.training import Outcome, PrelaunchedDriver, Training
from guidelines_core.verl_adapter.trials import GAP, WALL
from sweeps.channel import COMMANDS, EVENTS, FOLDER, Lines, stop_file
from sweeps.leftovers import WORKER, await_free_gpus, clear_leftovers, identity
from sweeps.objective import Measured, Step, measure, rate
from sweeps.peaks import Peaks
from sweeps.record import Record, journal_of
from sweeps.space import BATCH, PROMPT, RESPONSE, ROLLOUTS, Point, Space
from sweeps.study import Failed, Goal, TooSlow, TrialRequest

POLL_S = 0.02
START_S = 1200.0
"""Seconds that a trainer may take to be ready."""

STALL_S, STALL_FACTOR, STALL_MIN_S = 1800.0, 10.0, 120.0
"""How long a step may take before one was seen; afterwards, as a multiple of the longest one, and at least."""

BLOCK = 5
"""Trials that in a row keep the values that need a new start."""

ENGINE_LIMITS = tuple(
    f"{engine}.{limit}"
    for engine in ("actor_rollout_ref.rollout", "reward.reward_model.rollout")
    for limit in ("max_model_len", "max_num_batched_tokens", "max_num_seqs", "cudagraph_capture_sizes")
)
"""What an engine is built with that follows from the lengths of texts and their number."""

SIZES = (PROMPT, RESPONSE, "guidelines.solver.max_tokens", BATCH, ROLLOUTS)
"""The axes that `ENGINE_LIMITS` follow from."""

CAUSES = {
    "out of memory": r"out of memory|OutOfMemory|No available memory for the cache|MemoryError|running low on memory",
    "solver lost": r"SolverError|no solution within|solver's server|no materializable trajectories|EngineDeadError|"
    r"SolverLostError|ProcessDiedError: the (rollout|solver's) server|class_name: vLLMHttpServer",
}
"""What a log says of a failure; the first that is found is its cause."""

ENGINES = ("ray::vLLM", "VLLM::")
"""Prefixes of the engines' process titles."""


@dataclass(frozen=True)
class Steps:
    """How many steps a trial trains: `warm_up` that are not measured, then `measured`."""

    warm_up: int = 1
    measured: int = 3

    def overrides(self) -> tuple[str, ...]:
        """Return what makes a run of an experiment a trial: so many steps, and nothing saved or validated."""
        return (
            f"trainer.total_training_steps={self.warm_up + self.measured}",
            "trainer.total_epochs=1000",
            "trainer.save_freq=-1",
            "trainer.test_freq=-1",
            "trainer.val_before_train=False",
        )


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
                    raise Failed(f"solver lost: process {lost[0]} of an engine ended")
            time.sleep(POLL_S)


class Trials:
    """Measures points on one machine, with a trainer that goes from one trial to the next where it can.

    Attributes:
        starts: trainers started so far.
        cold_s: seconds that the last one took until it was ready.
    """

    def __init__(
        self, space: Space, goal: Goal, steps: Steps, record: Record, folder: Path, *, warm: bool = True
    ) -> None:
        self._space, self._goal, self._steps, self._record = space, goal, steps, record
        self._folder = folder
        self._warm = warm
        self._trainer: TrainerProcess | None = None
        self._longest = 0.0
        self._since_choice = 0
        self._peaks = Peaks()
        self.starts = 0
        self.cold_s = 0.0
        clear_leftovers()

    def cold(self) -> tuple[Any, ...] | None:
        """Return the cold values of the trainer that is up; None if there is none, or after every `BLOCK` trials."""
        return self._trainer.cold if self._trainer and self._since_choice % BLOCK else None

    def measure(self, request: TrialRequest) -> Measured:
        """Measure one trial.

        Raises:
            Failed: it has no figure; the message begins with its cause.
            TooSlow: it was ended because of its first steps.
        """
        config = self._config(request)
        self._since_choice += 1
        run_id = self._record.begin(request.name, {**request.point, "reference": request.reference})
        journal = journal_of(self._folder, request.name)
        journal.unlink(missing_ok=True)  # what another command wrote is no measurement of this one's
        try:
            trainer = self._trainer_for(config, request)
            steps = self._steps_of(trainer, request, config, journal)
            measured = measure(steps, self._steps.warm_up, self._goal.objective, config.guidelines.grader.name)
        except Failed as error:
            log = self._trainer.log if self._trainer else None
            self.close()
            reason = with_cause(str(error), log)
            self._record.end(run_id, "FAILED", reason, self._peaks.metrics(), journal)
            raise Failed(reason) from error
        except TooSlow as error:
            self._record.end(run_id, "KILLED", f"pruned: {error}", self._peaks.metrics(), journal)
            raise
        except BaseException as error:
            self._record.end(run_id, "KILLED", f"{type(error).__name__} {error}", {}, journal)
            raise
        more = {**self._peaks.metrics(), "sweep/start_s": trainer.ready_s}
        if GAP in steps[0]:
            more[GAP] = steps[0][GAP]
        measured = replace(measured, metrics={**measured.metrics, **more})
        self._record.end(run_id, "FINISHED", "measured", measured.metrics, journal)
        return measured

    def close(self) -> None:
        """End the trainer and all its processes, and wait until the GPUs are free.

        Raises:
            RuntimeError: a GPU is still held after `FREE_S` seconds.
        """
        if self._trainer is not None:
            self._trainer.end()
            self._trainer = None
        await_free_gpus()

    def _config(self, request: TrialRequest) -> DictConfig:
        """Return the trial's whole configuration."""
        config = self._space.config(None if request.reference else request.point)
        return attempt_config(config, Launch(request.name, self._folder / "trials" / request.name))

    def _trainer_for(self, config: DictConfig, request: TrialRequest) -> TrainerProcess:
        """Return a trainer that can measure the trial: the one that is up, or a new one."""
        cold = self._space.cold(self._space.reference if request.reference else request.point)
        # The asynchronous trainers hold prompts and rollouts of their own between two steps.
        keeps = self._warm and config.trainer.v1.trainer_mode == "sync"
        if self._trainer is not None and keeps and self._trainer.cold == cold:
            return self._trainer
        self.close()
        self.starts, self._since_choice = self.starts + 1, 1
        started = int(psutil.Process().create_time())
        folder = self._folder / f"trainer-{os.getpid()}-{started}-{self.starts}"
        launched = self._launch_config(config, request.point)
        launched = attempt_config(launched, Launch(request.name, folder))
        self._trainer = TrainerProcess(launched, cold, self._record, folder)
        self._trainer.launch()
        self.cold_s = self._trainer.ready_s
        return self._trainer

    def _launch_config(self, config: DictConfig, point: Point) -> DictConfig:
        """Return a trial's configuration with engines for the longest and the most texts of all trials."""
        axes = self._space.axes
        most = {axis: max(axes[axis]) for axis in SIZES if axis in axes}
        if most and self._warm:
            largest = self._space.config({**point, **most})
            config = changed(config, {key: OmegaConf.select(largest, key) for key in ENGINE_LIMITS})
        return with_cache_sizes(config, lambda: self._space.machine.gpu)

    def _steps_of(self, trainer: TrainerProcess, request: TrialRequest, config: DictConfig, file: Path) -> list[Step]:
        """Have the trainer measure the trial and return its steps' metrics, which it writes to `file`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        composed = file.with_suffix(".yaml")
        OmegaConf.save(config, composed)
        journal = Lines(file)
        steps: list[Step] = []
        slow: TooSlow | None = None
        self._peaks.restart()
        trainer.commands.write(name=request.name, config=str(composed))
        last = time.monotonic()
        for _ in trainer.ticks():
            ends = [event for event in trainer.events.new() if event.get("name") == request.name]
            for line in journal.new():
                if WALL not in line["data"]:
                    continue
                steps.append(line["data"])
                last, self._longest = time.monotonic(), max(self._longest, line["data"][WALL])
                slow = slow or self._report(request, steps)
                if slow is not None:
                    stop_file(trainer.folder, request.name).touch()
            if ends:
                if ends[0]["how"] == "failed":
                    raise Failed(ends[0]["reason"])
                break
            if time.monotonic() - last > patience(self._longest):
                raise Failed(f"timeout: step {len(steps) + 1} took longer than {patience(self._longest):.0f} s")
        if slow is not None and len(steps) < self._steps.warm_up + self._steps.measured:
            raise slow
        return steps

    def _report(self, request: TrialRequest, steps: list[Step]) -> TooSlow | None:
        """Report the last step's rate if it is measured, and return the verdict if that ends the trial."""
        number = len(steps) - self._steps.warm_up
        if number < 1:
            return None
        try:
            request.report(number, rate(steps[-1], self._goal.objective))
        except TooSlow as slow:
            return slow
        return None


def with_cause(reason: str, log: Path | None) -> str:
    """Return a failure's reason with its cause before it: one that is known, found in what was said, or `error`."""
    if reason.startswith(("timeout:", "error:", *(f"{name}:" for name in CAUSES))):
        return reason
    said = [reason, *(log.read_text(errors="replace").splitlines()[-200:] if log else [])]
    known = (name for name, pattern in CAUSES.items() if re.search(pattern, "\n".join(said), re.IGNORECASE))
    return f"{next(known, 'error')}: {reason}"


def patience(longest: float) -> float:
    """Return the seconds after which a step has stalled, if the longest one seen took `longest` (0: none was)."""
    return max(STALL_MIN_S, STALL_FACTOR * longest) if longest else STALL_S


def is_engine(process: psutil.Process) -> bool:
    """Say whether a process is an engine's."""
    try:
        return " ".join(process.cmdline()).startswith(ENGINES)
    except psutil.Error:
        return False
