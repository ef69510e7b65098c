"""The keys that a point sets, and the keys in which two configurations differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from sweeps.axes import ACTOR, BATCH, LAYOUT, MICRO, MINI, ROLLOUTS, TOKENS, UPDATES, Point


def derived_keys(config: DictConfig, point: Point) -> Point:
    """Return the keys that are derived from a point: mini- and micro-batches without padding, and dynamic batches.

    The mini-batch is the batch, or an equal part of it. A micro-batch is the largest divisor of a GPU's share up to the
    experiment's own value. In `separate_async`, a step has as many batches as updates.

    Args:
        config: the experiment's configuration on the point's layout.
        point: a value for every axis.
    """
    batch = point.get(BATCH, config.data.train_batch_size)
    n = point.get(ROLLOUTS, config.actor_rollout_ref.rollout.n)
    updates = point.get(UPDATES, 1)
    mini = point.get(MINI, batch // updates)
    found: Point = {MINI: mini}
    if layout.separate(config):
        found["trainer.v1.separate_async.parameter_sync_step"] = updates
    if TOKENS in point:
        return {**found, f"{ACTOR}.use_dynamic_bsz": True}
    workers = layout.training_gpus(config)
    for key, sequences in zip(MICRO, (mini * n, batch * n, batch * n), strict=True):
        own = OmegaConf.select(config, key)
        if own is not None and key not in point:
            found[key] = largest_divisor(sequences // workers, own)
    return found


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` that is not larger than `most`; both are 1 or more, or `number` is 0."""
    return max(size for size in range(1, most + 1) if number % size == 0)


def set_point(config: DictConfig, values: Mapping[str, Any]) -> None:
    """Set the keys of a point in a configuration; the two axes that are not keys are skipped."""
    for key, value in values.items():
        if key not in (LAYOUT, UPDATES):
            OmegaConf.update(config, key, value)


def differences(launched: DictConfig, wanted: DictConfig) -> dict[str, Any]:
    """Return the values of `wanted`, by dotted key, that `launched` lacks or has with another value."""
    was, becomes = dict(_leaves(launched)), dict(_leaves(wanted))
    return {key: value for key, value in becomes.items() if key not in was or was[key] != value}


def _leaves(config: DictConfig, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        key = str(name)
        if isinstance(value, DictConfig):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", OmegaConf.to_container(value) if OmegaConf.is_config(value) else value))
    return found
