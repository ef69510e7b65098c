"""The values that verl's keys accept, by verl's own defaults: no null, no NaN, the default's type; sizes of 1 or more.

`overrides.py` checks the command line against the experiment; this checks the experiment's YAML as well.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

MAY_BE_NULL = ("data.filter_overlong_prompts_workers", "data.train_files", "data.val_files")
"""The keys that may be null although verl's own configuration has a value; the files follow from `guidelines.data`."""

SIZES = (
    "data.train_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ppo_epochs",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.val_kwargs.n",
    "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.max_num_batched_tokens",
    "actor_rollout_ref.rollout.agent.num_workers",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.data_parallel_size",
    "actor_rollout_ref.rollout.pipeline_model_parallel_size",
    "reward.num_workers",
    "reward.reward_model.rollout.tensor_model_parallel_size",
    "reward.reward_model.rollout.data_parallel_size",
    "reward.reward_model.rollout.pipeline_model_parallel_size",
    "reward.reward_model.rollout.max_num_seqs",
    "reward.reward_model.rollout.max_num_batched_tokens",
    "trainer.total_training_steps",
    "trainer.total_epochs",
    "trainer.n_gpus_per_node",
    "trainer.nnodes",
    "trainer.v1.separate_async.parameter_sync_step",
)
"""verl's keys whose value is at least 1."""

COUNTS = (
    "actor_rollout_ref.rollout.n_gpus_per_node",
    "actor_rollout_ref.rollout.nnodes",
    "reward.reward_model.n_gpus_per_node",
    "reward.reward_model.nnodes",
)
"""verl's keys whose value is at least 0."""


def verl_folder() -> Path:
    """Return where verl is installed. `pkg://verl` would import it, and with it torch and Ray, which takes 5 s."""
    spec = importlib.util.find_spec("verl")
    if spec is None or spec.origin is None:
        raise ImportError("verl is not installed: run `make install`")
    return Path(spec.origin).parent


@cache
def defaults() -> dict[str, Any]:
    """Return verl's own configuration with every default, references unresolved."""
    file = verl_folder() / "trainer" / "config" / "_generated_ppo_trainer.yaml"
    loaded: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return loaded


def unlike_defaults(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every value that is null, not finite or of another type, where verl has a default."""
    values: Any = OmegaConf.to_container(config)
    yield from _unlike(values, defaults(), "")


def _unlike(values: Mapping[Any, Any], usual: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        key, default = f"{prefix}{name}", usual.get(name)
        if isinstance(value, Mapping):
            yield from _unlike(value, default if isinstance(default, Mapping) else {}, f"{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{key}={value}: expected a finite number"
        elif value is None and key in MAY_BE_NULL:
            continue
        elif default is not None and (expected := _expected(value, default)):
            yield (
                f"{key}={'null' if value is None else value}: expected {expected}, like verl's own "
                f"{'keys' if isinstance(default, Mapping) else default}; change it, or leave it out"
            )


def _expected(value: Any, default: Any) -> str | None:
    """Return what is expected in place of a `value` that is no section; None if it can stand for `default`."""
    if isinstance(value, str) and "${" in value:
        return None
    if isinstance(default, Mapping):
        return "a section" if value is None else None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, (int, float)):
        return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"
    return "a value" if value is None else None


def small_sizes(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every one of `SIZES` below 1, and for what else is below its smallest value."""
    for key in SIZES:
        value = OmegaConf.select(config, key)
        if not isinstance(value, int) or value < 1:
            yield f"{key}={'null' if value is None else value}: expected 1 or more; give a whole number"
    for key in COUNTS:
        value = OmegaConf.select(config, key)
        if not isinstance(value, int) or value < 0:
            yield f"{key}={'null' if value is None else value}: expected 0 or more; give a whole number"
    rank, key = config.actor_rollout_ref.model.lora_rank, "actor_rollout_ref.model.lora_rank"
    if rank < 0:
        yield f"{key}={rank}: expected a rank such as 32, or 0, which trains all weights"
