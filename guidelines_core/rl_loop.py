"""The process that is verl: its own V1 trainer, with every graded rollout recorded.

`python -m guidelines_core.rl_loop CONFIG.yaml` trains what a composed configuration says. It is started by
`guidelines_core.trainer`, which owns its life, its log and its MLflow run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf


@ray.remote
class GuidelinesTaskRunner:
    """verl's driver process; does what `verl.trainer.main_ppo.TaskRunnerV1.run` does with our trainer."""

    def run(self, config: DictConfig) -> None:
        """Train to the last step of `config`."""
        import transfer_queue as tq
        from verl.trainer.ppo.v1 import AgentLoopManagerTQ
        from verl.utils.logging_utils import configure_verl_logging

        from guidelines_core.recording import recorded_trainer

        configure_verl_logging()
        config.transfer_queue.enable = True
        OmegaConf.resolve(config)
        tq.init(config.transfer_queue)
        trainer: Any = None
        succeeded = False
        try:
            trainer = recorded_trainer(config.trainer.v1.trainer_mode)(config=config)
            trainer.init()
            trainer.fit(
                AgentLoopManagerTQ.create(
                    config=config,
                    llm_client=trainer.get_llm_client(),
                    teacher_client=trainer.get_teacher_client(),
                    reward_loop_worker_handles=trainer.get_reward_handles(),
                )
            )
            succeeded = True
        finally:
            try:
                if getattr(trainer, "logger", None) is not None:
                    trainer.logger.finish(exit_code=0 if succeeded else 1)
            finally:
                tq.close()


def main(config_file: Path) -> None:
    """Train what `config_file` says, to the end."""
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = OmegaConf.load(config_file)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=GuidelinesTaskRunner)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
