"""verl's own check of a composed configuration."""

from __future__ import annotations

from omegaconf import DictConfig


def validate(config: DictConfig) -> None:
    """Check `config` as verl's driver does before it starts. Importing verl takes 5 s.

    Raises:
        ValueError, AssertionError, TypeError, NotImplementedError: verl's first finding.
    """
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
