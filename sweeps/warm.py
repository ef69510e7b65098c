"""Measures many trials with one trainer: verl's driver trains one configuration after the other.

`python -m sweeps.warm CONFIG.yaml` starts Ray, the engines and the workers once. Between two trials it changes the
settings that a step reads, in every process, and restores model and optimizer (`verl_adapter.trials`). A setting that
an engine reads only when it is built is not among `sweeps.axes.WARM` and needs a new trainer. Engines are built for the
longest texts of all trials.
"""

from __future__ import annotations

import copy
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.launch import driver
from guidelines_core.verl_adapter import trials
from guidelines_core.verl_adapter.task_runner import GuidelinesTaskRunner, meter
from sweeps.channel import COMMANDS, EVENTS, FOLDER, Lines, stop_file
from sweeps.keys import differences

POLL_S = 0.02
DRAIN_S = 60.0
"""Seconds for requests under way to end after a trial's last step."""


class TrialServer(GuidelinesTaskRunner):
    """A task runner that trains once for each trial until the sweep ends it."""

    def run(self, config: DictConfig) -> None:
        """Set up the trainer of `config` and measure trials."""
        # `run` changes its argument.
        self._launched = copy.deepcopy(config)
        super().run(config)

    def trainer_class(self, mode: str) -> Any:
        """Return the trainer class of a trial, which records its steps and their wall-clock time."""
        return trials.trial_trainer(mode)

    def train(self, trainer: Any, agent_loop_manager: Any) -> None:
        """Measure the trial of each command; never returns, since the sweep ends this process."""
        folder = Path(os.environ[FOLDER])
        commands, events = Lines(folder / COMMANDS), Lines(folder / EVENTS)
        trainings = Trials(trainer, agent_loop_manager, self._launched)
        events.write(event="ready")
        while True:
            for command in commands.new():
                events.write(event="end", name=command["name"], **trainings.measure(**command))
            time.sleep(POLL_S)


class Trials:
    """The trials of one trainer; `launched` is the configuration of its start."""

    def __init__(self, trainer: Any, manager: Any, launched: DictConfig) -> None:
        self._trainer, self._manager, self._launched = trainer, manager, launched
        self._changed: set[str] = set()
        trials.keep_start(trainer)

    def measure(self, name: str, config: str, began: float) -> dict[str, str]:
        """Train the configuration in the file `config` from the first weights on; return the end as an event's entries.

        The trial's cost counts from `began`, in seconds since 1970.
        """
        wanted = OmegaConf.load(config)
        assert isinstance(wanted, DictConfig)
        trainer = self._trainer
        os.environ["VERL_FILE_LOGGER_PATH"] = str(Path(config).with_suffix(".jsonl"))
        trainer.stop = stop_file(Path(os.environ[FOLDER]), name)
        trainer.meter = meter(wanted, began)
        code = 1
        try:
            self._prepare(wanted)
            trainer.fit(self._manager)
            code = 0
            trials.drain(DRAIN_S)
        except trials.TrialStopped as stopped:
            trials.drain(DRAIN_S)
            return {"how": "stopped", "reason": str(stopped)}
        except Exception as error:  # any error ends this trial, and the sweep continues
            traceback.print_exc()
            return {"how": "failed", "reason": f"{type(error).__name__}: {error}"[:2000]}
        finally:
            if getattr(trainer, "logger", None) is not None:
                trainer.logger.finish(exit_code=code)
        return {"how": "done", "reason": ""}

    def _prepare(self, wanted: DictConfig) -> None:
        """Set the trial's configuration in every process, and restore the model's first weights."""
        values = differences(self._launched, wanted)
        # Keys that the last trial changed and this one does not are reset to their values at the launch.
        back = {key: OmegaConf.select(self._launched, key) for key in self._changed - set(values)}
        self._changed = set(values)
        trials.reset(self._trainer, self._manager, {**back, **values})


if __name__ == "__main__":
    # Imported by its module's name, since Ray's processes cannot import `__main__`.
    from sweeps.warm import TrialServer as Server

    driver.main(Path(sys.argv[1]), Server)
