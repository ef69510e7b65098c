"""verl's driver process, with this project's trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.energy import joules_of
from guidelines_core.runs.cost import Meter, spent
from guidelines_core.runs.start import Start


def meter(config: DictConfig, began: float) -> Meter:
    """Return what counts the cost of an attempt that was launched at `began`, in seconds since 1970."""
    gpus = layout.gpus_held(config)
    before = spent(Path(config.trainer.default_local_dir))
    return Meter(gpus, config.guidelines.cost.gpu_hour, began, before, joules_of(gpus))


class GuidelinesTaskRunner:
    """verl's driver process; does what `verl.trainer.main_ppo.TaskRunnerV1.run` does with our trainer."""

    def trainer_class(self, mode: str) -> Any:
        """Return the trainer's class for `trainer.v1.trainer_mode`."""
        from guidelines_core.verl_adapter.trainer import recorded_trainer

        return recorded_trainer(mode)

    def train(self, trainer: Any, agent_loop_manager: Any) -> None:
        """Train to the last step."""
        trainer.fit(agent_loop_manager)

    def run(self, config: DictConfig) -> None:
        """Set up what `config` says and train.

        `config` is the attempt's configuration with the driver's `py_executable`, which is not recorded.
        """
        start = Start.handed_over()
        start.ends("ray")
        os.environ.update(start.environment())
        cost = meter(config, start.began)
        import transfer_queue as tq
        from verl.trainer.ppo.v1 import AgentLoopManagerTQ
        from verl.utils.logging_utils import configure_verl_logging

        configure_verl_logging()
        if config.guidelines.fork_processes:
            config.ray_kwargs.ray_init.runtime_env.py_executable = None
        tq.init(config.transfer_queue)
        trainer: Any = None
        succeeded = False
        try:
            trainer = self.trainer_class(config.trainer.v1.trainer_mode)(config=config)
            trainer.meter = cost
            trainer.init()
            self.train(
                trainer,
                AgentLoopManagerTQ.create(
                    config=config,
                    llm_client=trainer.get_llm_client(),
                    teacher_client=trainer.get_teacher_client(),
                    reward_loop_worker_handles=trainer.get_reward_handles(),
                ),
            )
            succeeded = True
        finally:
            try:
                if getattr(trainer, "logger", None) is not None:
                    trainer.logger.finish(exit_code=0 if succeeded else 1)
            finally:
                tq.close()
