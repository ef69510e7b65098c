"""The axes of a sweep: their names, and the YAML file that gives their values.

An axis is a key of the composed configuration. Two are not: `layout` picks one of `experiments/conf/layout`, and
`updates_per_step` is the number of optimizer steps a batch is cut into, from which the mini-batch follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from guidelines_core.config.compose import ConfigError, own_layout
from guidelines_core.paths import CONF, ROOT

Point = dict[str, Any]
"""An axis's name to one of its values."""

SPACES = ROOT / "sweeps" / "spaces"
LAYOUTS = CONF / "layout"

BATCH, ROLLOUTS = "data.train_batch_size", "actor_rollout_ref.rollout.n"
PROMPT, RESPONSE = "data.max_prompt_length", "data.max_response_length"
ACTOR, ROLLOUT, REF = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.ref"
TOKENS, UPDATES, LAYOUT = f"{ACTOR}.ppo_max_token_len_per_gpu", "updates_per_step", "layout"
MINI = f"{ACTOR}.ppo_mini_batch_size"
CONCURRENCY = "guidelines.solver.max_concurrency"

MICRO = (
    f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    f"{REF}.log_prob_micro_batch_size_per_gpu",
)

WARM = frozenset(
    {BATCH, ROLLOUTS, PROMPT, RESPONSE, TOKENS, UPDATES, MINI, *MICRO, CONCURRENCY, "guidelines.solver.max_tokens"}
)
"""Axes that a running trainer can change between two trials; every other axis needs a new start (see `warm.py`).

Each of them counts something: its values are 1 or more.
"""

KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}
"""By the type of the experiment's own value: the types that an axis's values may have, and their name."""


def read_axes(file: Path) -> dict[str, list[Any]]:
    """Return the axes in a space's YAML file, each with the values that it gives.

    Raises:
        ConfigError: the file does not hold a space.
    """
    if not file.is_file():
        raise ConfigError(f"--space {file}: no such file; expected a YAML of axes, such as {SPACES / 'quick.yaml'}")
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--space {file}: it is not valid YAML: {' '.join(str(error).split())}") from error
    axes = read.get("axes") if isinstance(read, dict) and set(read) == {"axes"} else None
    if not isinstance(axes, dict) or not all(isinstance(v, list) and v for v in axes.values()):
        raise ConfigError(f"--space {file}: expected `axes`, a mapping of keys to lists of values, and nothing else")
    return {str(axis): values for axis, values in axes.items()}


def own_value(config: DictConfig, axis: str, experiment: str, overrides: Sequence[str]) -> Any:
    """Return the experiment's own value of an axis.

    Raises:
        ConfigError: the axis is not a key of the experiment, or its value is a section or a list.
    """
    if axis == LAYOUT:
        return own_layout(experiment, overrides)
    if axis == UPDATES:
        return max(1, round(config.data.train_batch_size / config.actor_rollout_ref.actor.ppo_mini_batch_size))
    try:
        value = OmegaConf.select(config, axis, default=None)
    except (OmegaConfBaseException, ValueError, TypeError):  # a key such as `a..b` or `[`
        value = None
    if value is None:
        raise ConfigError(f"axis {axis}: there is no such key in {experiment}; run it with --dry-run to see every key")
    if isinstance(value, DictConfig | ListConfig):
        raise ConfigError(f"axis {axis}: expected a key with one value, this one has several: {value}")
    return value


def value_findings(axis: str, values: Sequence[Any], own: Any) -> Iterator[str]:
    """Yield a sentence for every value of another type than the experiment's own, or out of range."""
    accepted, expected = KINDS[type(own)]
    for value in values:
        if not isinstance(value, accepted) or isinstance(value, bool) != isinstance(own, bool):
            yield f"axis {axis}, value {value!r}: expected {expected}, like the experiment's own {own!r}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"axis {axis}, value {value}: expected a finite number"
        elif axis in WARM and is_number(value) and value < 1:
            yield f"axis {axis}, value {value}: expected 1 or more"
        elif axis == LAYOUT and value not in layouts():
            yield f"axis {axis}, value {value}: expected one of {', '.join(layouts())}"


def layouts() -> list[str]:
    """Return the names of all layouts."""
    return sorted(file.stem for file in LAYOUTS.glob("*.yaml") if not file.stem.startswith("_"))


def with_own_values(given: Mapping[str, Sequence[Any]], own: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return each axis's distinct values with the experiment's own value, numbers in ascending order."""
    return {axis: _ordered([*values, own[axis]]) for axis, values in given.items()}


def _ordered(values: list[Any]) -> tuple[Any, ...]:
    distinct = list(dict.fromkeys(values))
    return tuple(sorted(distinct) if is_number(distinct[0]) else distinct)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a value is a number and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
