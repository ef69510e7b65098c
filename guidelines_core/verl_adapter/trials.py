"""One of verl's trainers for several trainings in one process, for the trials of a sweep.

Between two trials `reset` sets the changed values in every process that has a copy, restores model and optimizer, and
builds a new data loader and replay buffer. `drain` empties the queue.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from guidelines_core.verl_adapter.reconfigure import (
    batch_limits,
    restore_start,
    save_start,
    set_agent_loop,
    set_lengths,
    set_values,
)
from guidelines_core.verl_adapter.validation import validate

WALL = "sweep/step_s"
"""Seconds of wall clock from the end of one step to the end of the next."""

GAP = "sweep/gap_s"
"""Seconds from a trial's last step to the first step of the next trial in the same trainer, logged with that step."""

POLL_S = 0.02


class TrialStopped(RuntimeError):
    """The sweep asked for this trial to end after the last step."""


def trial_trainer(mode: str) -> Any:
    """Return the recorded trainer for `trainer.v1.trainer_mode` with `Trial` mixed in."""
    from guidelines_core.verl_adapter.trainer import recorded_trainer

    return type("TrialTrainer", (Trial, recorded_trainer(mode)), {})


class Trial:
    """Mixed into a recorded trainer: times each step, can stop after a step, and caches data sets.

    Attributes:
        stop: the file whose appearance ends the trial after the step under way.
        step_ended: when the last step ended, on the monotonic clock.
    """

    stop: Path
    step_ended: float | None = None

    def __init__(self, config: DictConfig) -> None:
        self.datasets: dict[Any, Any] = {}
        super().__init__(config)  # type: ignore[call-arg]

    def _init_dataloader(self) -> None:
        """Build verl's data loaders over data sets that are read and filtered once for each prompt length."""
        from verl.trainer.ppo.v1 import trainer_base

        original = trainer_base.create_rl_dataset
        trainer_base.create_rl_dataset = partial(self._dataset, original)
        try:
            super()._init_dataloader()  # type: ignore[misc]
        finally:
            trainer_base.create_rl_dataset = original

    def _dataset(self, create: Any, files: Any, config: DictConfig, *args: Any, **kwargs: Any) -> Any:
        # A data set depends on this section, except for the sizes of batch and response.
        read = {
            name: value for name, value in config.items() if name not in ("train_batch_size", "max_response_length")
        }
        key = (str(files), str(read), str(sorted(kwargs.items())))
        if key not in self.datasets:
            self.datasets[key] = create(files, config, *args, **kwargs)
        return self.datasets[key]

    def _write_checkpoint(self) -> dict[str, float]:
        """Save nothing: a trial's weights are not needed."""
        return {}

    def on_train_begin(self) -> None:
        """Start the clock, and note the seconds since the previous trial's last step."""
        super().on_train_begin()  # type: ignore[misc]
        now = time.monotonic()
        self._gap = now - self.step_ended if self.step_ended else None
        self.step_ended = now

    def on_step_begin(self) -> None:
        """End the trial if a stop was requested.

        Raises:
            TrialStopped: the file `stop` exists.
        """
        if self.stop.exists():
            raise TrialStopped("stopped after a step")
        super().on_step_begin()  # type: ignore[misc]

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Add `WALL`, and to a trial's first step `GAP`."""
        super()._compute_metrics(batch, metrics, *args, **kwargs)  # type: ignore[misc]
        now = time.monotonic()
        metrics[WALL] = now - (self.step_ended or now)
        if self._gap is not None:
            metrics[GAP], self._gap = self._gap, None
        self.step_ended = now


def keep_start(trainer: Any) -> None:
    """Copy the trainer's weights and schedule to its workers' main memory, for `reset`."""
    _call(trainer.actor_rollout_wg.workers, save_start)


def reset(trainer: Any, agent_loop_manager: Any, values: dict[str, Any]) -> None:
    """Set `values` in every process of `trainer` and restore the state that `keep_start` copied."""
    import ray

    config = trainer.config
    set_values(config, values)
    validate(config)
    rollout = config.actor_rollout_ref.rollout
    _call(agent_loop_manager.agent_loop_workers, set_agent_loop, values)
    ray.get([worker.set_values.remote(values) for worker in trainer.reward_loop_manager.reward_loop_workers])
    servers = [server for replica in trainer.llm_server_manager.get_replicas() for server in replica.servers]
    _call(servers, set_lengths, rollout.prompt_length, rollout.response_length)
    trainer._init_dataloader()
    trainer.replay_buffer = trainer._build_replay_buffer()
    trainer._init_dump_executor()
    trainer.global_steps = 0
    # The engines sleep first: the training workers need their memory to restore the weights.
    trainer.checkpoint_manager.sleep_replicas()
    _call(trainer.actor_rollout_wg.workers, restore_start, batch_limits(config))
    trainer.checkpoint_manager.update_weights(0)


def drain(within_s: float) -> None:
    """Wait until all generation has ended, then empty the queue.

    Raises:
        TimeoutError: prompts are still in progress after `within_s` seconds.
    """
    import transfer_queue as tq

    deadline = time.monotonic() + within_s
    while any(tag.get("status") in ("pending", "running") for tags in (tq.kv_list() or {}).values()
              for tag in tags.values() if tag.get("is_prompt")):  # fmt: skip
        if time.monotonic() > deadline:
            raise TimeoutError(f"prompts were still being answered {within_s:.0f} s after the trial")
        time.sleep(POLL_S)
    for partition, tags in (tq.kv_list() or {}).items():
        if tags:
            tq.kv_clear(keys=list(tags), partition_id=partition)


def _call(actors: list[Any], function: Any, *arguments: Any) -> None:
    """Run a function in each of the actors, with the actor's object as its first argument."""
    import ray

    ray.get([actor.__ray_call__.remote(function, *arguments) for actor in actors])
