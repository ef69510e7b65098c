"""Measures trials, with one trainer for as many of them as possible; each step has a deadline, each failure a cause."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import changed
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.launch.attempt import Launch, attempt_config
from guidelines_core.verl_adapter.trials import GAP, WALL
from sweeps.axes import BATCH, PROMPT, RESPONSE, ROLLOUTS, Point
from sweeps.channel import Lines, stop_file
from sweeps.failures import TrialFailedError, TrialTooSlowError, with_cause
from sweeps.leftovers import await_free_gpus, clear_leftovers
from sweeps.loop import TrialRequest
from sweeps.objective import Measured, Step, measure, rate
from sweeps.peaks import Peaks
from sweeps.record import Record, journal_of
from sweeps.space import Space
from sweeps.study import Goal
from sweeps.trainer import TrainerProcess

STALL_S, STALL_FACTOR, STALL_MIN_S = 1800.0, 10.0, 120.0
"""Seconds that a trainer's first step may take; a later step has a multiple of the longest one, and a least value."""

BLOCK = 5
"""The number of trials in a row for which the values that need a new trainer stay the same."""

ENGINE_LIMITS = tuple(
    f"{engine}.{limit}"
    for engine in ("actor_rollout_ref.rollout", "reward.reward_model.rollout")
    for limit in ("max_model_len", "max_num_batched_tokens", "max_num_seqs", "cudagraph_capture_sizes")
)
"""The keys of an engine that follow from the lengths of texts and their number."""

SIZES = (PROMPT, RESPONSE, "guidelines.solver.max_tokens", BATCH, ROLLOUTS)
"""The axes that `ENGINE_LIMITS` follow from."""


@dataclass(frozen=True)
class Steps:
    """The number of steps of a trial: `warm_up` ones that are not measured, then `measured` ones."""

    warm_up: int = 1
    measured: int = 3

    def overrides(self) -> tuple[str, ...]:
        """Return the overrides that make an experiment a trial: the number of steps, no checkpoints, no validation."""
        return (
            f"trainer.total_training_steps={self.warm_up + self.measured}",
            "trainer.total_epochs=1000",
            "trainer.save_freq=-1",
            "trainer.test_freq=-1",
            "trainer.val_before_train=False",
        )


class Trials:
    """Measures points on one machine, with one trainer until a point needs a new one.

    Attributes:
        starts: the number of trainers started so far.
        cold_s: the seconds of the last trainer's start.
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
        """Return the cold values of the running trainer; None if there is none, or after every `BLOCK` trials."""
        return self._trainer.cold if self._trainer and self._since_choice % BLOCK else None

    def measure(self, request: TrialRequest) -> Measured:
        """Measure one trial.

        Raises:
            TrialFailedError: the trial has no result; the message begins with the cause.
            TrialTooSlowError: a step's rate was below the median of other trials.
        """
        config = self._config(request)
        began = time.time()
        self._since_choice += 1
        run_id = self._record.begin(request.name, {**request.point, "reference": request.reference})
        journal = journal_of(self._folder, request.name)
        journal.unlink(missing_ok=True)  # an earlier command may have written one
        try:
            trainer = self._trainer_for(config, request)
            steps = self._steps_of(trainer, request, config, journal, began)
            measured = measure(steps, self._steps.warm_up, self._goal.objective, config.guidelines.grader.name)
        except TrialFailedError as error:
            log = self._trainer.log if self._trainer else None
            self.close()
            reason = with_cause(str(error), log)
            self._record.end(run_id, "FAILED", reason, self._peaks.metrics(), journal)
            raise TrialFailedError(reason) from error
        except TrialTooSlowError as error:
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
        """Return the trial's complete configuration."""
        config = self._space.config(None if request.reference else request.point)
        return attempt_config(config, Launch(request.name, self._folder / "trials" / request.name))

    def _trainer_for(self, config: DictConfig, request: TrialRequest) -> TrainerProcess:
        """Return a trainer that can measure the trial: the running one, or a new one."""
        cold = self._space.cold(self._space.reference if request.reference else request.point)
        # The asynchronous trainers carry prompts and rollouts over from one step to the next.
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
        """Return a trial's configuration with engines sized for the longest and the most texts of all points."""
        axes = self._space.axes
        most = {axis: max(axes[axis]) for axis in SIZES if axis in axes}
        if most and self._warm:
            largest = self._space.config({**point, **most})
            config = changed(config, {key: OmegaConf.select(largest, key) for key in ENGINE_LIMITS})
        return with_cache_sizes(config, lambda: self._space.machine.gpu)

    def _steps_of(
        self, trainer: TrainerProcess, request: TrialRequest, config: DictConfig, file: Path, began: float
    ) -> list[Step]:
        """Send the trial to the trainer; return its steps' metrics, which the trainer writes to `file`.

        `began` is when the trial began, in seconds since 1970; the cost in its steps' records counts from then.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        composed = file.with_suffix(".yaml")
        OmegaConf.save(config, composed)
        journal = Lines(file)
        steps: list[Step] = []
        slow: TrialTooSlowError | None = None
        self._peaks.restart()
        trainer.commands.write(name=request.name, config=str(composed), began=began)
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
                    raise TrialFailedError(ends[0]["reason"])
                break
            if time.monotonic() - last > stall_limit(self._longest):
                raise TrialFailedError(
                    f"timeout: step {len(steps) + 1} took longer than {stall_limit(self._longest):.0f} s"
                )
        if slow is not None and len(steps) < self._steps.warm_up + self._steps.measured:
            raise slow
        return steps

    def _report(self, request: TrialRequest, steps: list[Step]) -> TrialTooSlowError | None:
        """Report the last step's rate if it is measured; return the exception if that ends the trial."""
        number = len(steps) - self._steps.warm_up
        if number < 1:
            return None
        try:
            request.report(number, rate(steps[-1], self._goal.objective))
        except TrialTooSlowError as slow:
            return slow
        return None


def stall_limit(longest: float) -> float:
    """Return the seconds after which a step has stalled; `longest` are those of the longest step so far, 0 if none."""
    return max(STALL_MIN_S, STALL_FACTOR * longest) if longest else STALL_S
