"""One trainer, many trials: verl's driver measures one configuration after the other without starting anew.

`python -m sweeps.warm CONFIG.yaml` starts Ray, the engines and the workers once. Between two trials it changes what a
step reads, where it is read: the driver's configuration, each agent-loop worker's and each server's copy of it, the
reward workers' solver client, the training workers' batch limits. It puts model and optimizer back to where they
were, and empties the queue. What an engine reads only when it is built (`sweeps.space.WARM` leaves it out) needs a new
trainer, whose engines are then built for the longest texts of all trials.
"""

from __future__ import annotations

import copy
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.launch import driver as rl_loop
from guidelines_core.verl_adapter.task_runner import GuidelinesTaskRunner
from sweeps.channel import COMMANDS, EVENTS, FOLDER, Lines, stop_file
from sweeps.objective import GAP, WALL
from sweeps.reach import (
    batch_limits,
    begin_again,
    change,
    change_agent_loop,
    change_server,
    remember,
)
from sweeps.space import differences

POLL_S = 0.02
DRAIN_S = 60.0
"""How long what is still being generated may take to end after a trial's last step."""


class TrialStopped(RuntimeError):
    """The sweep asked for this trial to end after the last step."""


class TrialServer(GuidelinesTaskRunner):
    """verl's driver, which trains once a request and ends with the sweep."""

    def run(self, config: DictConfig) -> None:
        """Set up what `config` says and measure."""
        # verl's driver changes its own.
        self._launched = copy.deepcopy(config)
        super().run(config)

    def trainer_class(self, mode: str) -> Any:
        """Return the trainer's class: with our records and the clock of a trial."""
        from guidelines_core.verl_adapter.trainer import recorded_trainer

        return type("TrialTrainer", (Trial, recorded_trainer(mode)), {})

    def train(self, trainer: Any, agent_loop_manager: Any) -> None:
        """Measure every trial that is asked for; never returns, the sweep ends this process."""
        folder = Path(os.environ[FOLDER])
        commands, events = Lines(folder / COMMANDS), Lines(folder / EVENTS)
        trials = Trials(trainer, agent_loop_manager, self._launched)
        events.write(event="ready")
        while True:
            for command in commands.new():
                events.write(event="end", name=command["name"], **trials.measure(**command))
            time.sleep(POLL_S)


class Trial:
    """What a trial adds to a recorded trainer: each step's wall clock, the way out after a step, data sets kept."""

    stop: Path
    looked: float | None = None

    def __init__(self, config: DictConfig) -> None:
        self.datasets: dict[Any, Any] = {}
        super().__init__(config)  # type: ignore[call-arg]

    def _init_dataloader(self) -> None:
        """Build verl's dataloaders over data sets that are read and filtered once for each prompt length.

        verl builds both each time, under a name of its module that stands for ours meanwhile.
        """
        from verl.trainer.ppo.v1 import trainer_base

        original = trainer_base.create_rl_dataset
        trainer_base.create_rl_dataset = partial(self._dataset, original)
        try:
            super()._init_dataloader()  # type: ignore[misc]
        finally:
            trainer_base.create_rl_dataset = original

    def _dataset(self, create: Any, files: Any, config: DictConfig, *args: Any, **kwargs: Any) -> Any:
        # What a data set depends on is in this section, and the batch size is none of it.
        read = {
            name: value for name, value in config.items() if name not in ("train_batch_size", "max_response_length")
        }
        key = (str(files), str(read), str(sorted(kwargs.items())))
        if key not in self.datasets:
            self.datasets[key] = create(files, config, *args, **kwargs)
        return self.datasets[key]

    def _write_checkpoint(self) -> None:
        """Save nothing, whatever ends the trial: its weights are put back, or go."""

    def on_train_begin(self) -> None:
        """Start the clock, and say how long it stood still since the last trial's last step."""
        super().on_train_begin()  # type: ignore[misc]
        now = time.monotonic()
        self._gap = now - self.looked if self.looked else None
        self.looked = now

    def on_step_begin(self) -> None:
        """End the trial if that was asked for."""
        if self.stop.exists():
            raise TrialStopped("stopped after a step")
        super().on_step_begin()  # type: ignore[misc]

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Add the seconds since the same moment of the step before: all phases, and all between two steps."""
        super()._compute_metrics(batch, metrics, *args, **kwargs)  # type: ignore[misc]
        now = time.monotonic()
        metrics[WALL] = now - (self.looked or now)
        if self._gap is not None:
            metrics[GAP], self._gap = self._gap, None
        self.looked = now


class Trials:
    """The trials of one trainer. `launched` is the configuration that it was started with."""

    def __init__(self, trainer: Any, manager: Any, launched: DictConfig) -> None:
        import ray

        self._trainer, self._manager, self._launched = trainer, manager, launched
        self._get = ray.get
        self._changed: set[str] = set()
        self._called(trainer.actor_rollout_wg.workers, remember)

    def _called(self, actors: list[Any], function: Any, *arguments: Any) -> None:
        """Run a function in each of the actors, with the actor's object as its first argument."""
        self._get([actor.__ray_call__.remote(function, *arguments) for actor in actors])

    def measure(self, name: str, config: str) -> dict[str, str]:
        """Train as the file `config` says, from the first model on, and return how that ended."""
        asked = OmegaConf.load(config)
        assert isinstance(asked, DictConfig)
        trainer = self._trainer
        os.environ["VERL_FILE_LOGGER_PATH"] = str(Path(config).with_suffix(".jsonl"))
        trainer.stop = stop_file(Path(os.environ[FOLDER]), name)
        code = 1
        try:
            self._prepare(asked)
            trainer.fit(self._manager)
            code = 0
            self._drain()
        except TrialStopped as stopped:
            self._drain()
            return {"how": "stopped", "reason": str(stopped)}
        except Exception as error:  # whatever it is, it is this trial's end and not the sweep's
            traceback.print_exc()
            return {"how": "failed", "reason": f"{type(error).__name__}: {error}"[:2000]}
        finally:
            if getattr(trainer, "logger", None) is not None:
                trainer.logger.finish(exit_code=code)
        return {"how": "done", "reason": ""}

    def _prepare(self, asked: DictConfig) -> None:
        """Bring every process to the trial's configuration and the model back to its beginning."""
        from verl.trainer.ppo.utils import need_critic, need_reference_policy
        from verl.utils.config import validate_config

        trainer = self._trainer
        values = differences(self._launched, asked)
        # What the last trial changed and this one does not goes back to what the launch had.
        back = {key: OmegaConf.select(self._launched, key) for key in self._changed - set(values)}
        self._changed = set(values)
        values = {**back, **values}
        change(trainer.config, values)
        config = trainer.config
        validate_config(config, need_reference_policy(config), need_critic(config))
        rollout = config.actor_rollout_ref.rollout
        self._called(self._manager.agent_loop_workers, change_agent_loop, values)
        self._get([worker.change.remote(values) for worker in trainer.reward_loop_manager.reward_loop_workers])
        servers = [server for replica in trainer.llm_server_manager.get_replicas() for server in replica.servers]
        self._called(servers, change_server, rollout.prompt_length, rollout.response_length)
        trainer._init_dataloader()
        trainer.replay_buffer = trainer._build_replay_buffer()
        trainer._init_dump_executor()
        trainer.global_steps = 0
        # The engines sleep first: their memory is the training workers' while these put the weights back.
        trainer.checkpoint_manager.sleep_replicas()
        self._called(trainer.actor_rollout_wg.workers, begin_again, batch_limits(config))
        trainer.checkpoint_manager.update_weights(0)

    def _drain(self) -> None:
        """Wait until generation ends, then empty the queue."""
        import transfer_queue as tq

        deadline = time.monotonic() + DRAIN_S
        while any(tag.get("status") in ("pending", "running") for tags in (tq.kv_list() or {}).values()
                  for tag in tags.values() if tag.get("is_prompt")):  # fmt: skip
            if time.monotonic() > deadline:
                raise TimeoutError(f"prompts were still being answered {DRAIN_S:.0f} s after the trial")
            time.sleep(POLL_S)
        for partition, tags in (tq.kv_list() or {}).items():
            if tags:
                tq.kv_clear(keys=list(tags), partition_id=partition)


if __name__ == "__main__":
    # By its module's name, which Ray's processes can import.
    from sweeps.warm import TrialServer as Server

    rl_loop.main(Path(sys.argv[1]), Server)
