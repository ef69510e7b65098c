"""The points of a sweep: axes of a named experiment's keys, keys derived from a point, and why one cannot run.

A space is a YAML of `sweeps/spaces/`: each axis a key of the composed configuration and the values it may take.
Two names are not keys: `layout` picks one of `experiments/conf/layout`, and `updates_per_step` is the number of
optimizer steps a batch is cut into, from which the mini-batch follows. The experiment's own values join every axis.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, finished, own_layout, unresolved
from guidelines_core.hardware.footprint import memory
from guidelines_core.hardware.gpus import devices, known_gpu
from guidelines_core.hardware.shapes import Gpu, find_shape
from guidelines_core.hardware.timing import padded_sequences
from guidelines_core.paths import ROOT
from guidelines_core.preflight import config_findings

Point = dict[str, Any]
"""An axis's name to one of its values."""

SPACES = ROOT / "sweeps" / "spaces"

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
"""Axes that a running trainer can change between two trials; every other axis needs a new start (see `warm.py`)."""

MEMORY_SHARE = 0.95
"""Of a GPU's memory, what the roles' estimated peak may take."""


@dataclass(frozen=True)
class Machine:
    """What is there: the number of GPUs and the figures of one; none of it matters to a layout on a CPU."""

    gpus: int
    gpu: Gpu

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        found = devices()
        return cls(len(found), known_gpu(found))


@dataclass(frozen=True)
class Space:
    """The points of one experiment on one machine.

    Attributes:
        experiment: its name.
        overrides: for every point, `key=value`.
        axes: each axis's values, the experiment's own among them, numbers in ascending order.
        machine: where the trials run.
    """

    experiment: str
    overrides: tuple[str, ...]
    axes: Mapping[str, tuple[Any, ...]]
    machine: Machine
    _reasons: dict[tuple[Any, ...], str | None] = field(default_factory=dict, repr=False, compare=False)
    _shares: dict[tuple[Any, ...], float] = field(default_factory=dict, repr=False, compare=False)
    _bases: dict[Any, DictConfig] = field(default_factory=dict, repr=False, compare=False)
    _reused: dict[Any, DictConfig] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, file: Path, experiment: str, overrides: Sequence[str], machine: Machine) -> Space:
        """Read a space's YAML for an experiment.

        Raises:
            ConfigError: the file is no space, or an axis is no key of the experiment.
        """
        if not file.is_file():
            raise ConfigError(f"--space {file}: no such file; expected a YAML of axes, such as {SPACES / 'quick.yaml'}")
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
        given = read.get("axes") if isinstance(read, dict) else None
        if not isinstance(given, dict) or not all(isinstance(v, list) and v for v in given.values()):
            raise ConfigError(f"{file}: expected `axes`, a mapping of keys to lists of values")
        base = unresolved(experiment, overrides)
        own = {axis: _own(base, axis, experiment, overrides) for axis in given}
        axes = {axis: _ordered([*values, own[axis]]) for axis, values in given.items()}
        space = cls(experiment, tuple(overrides), axes, machine)
        space.refuse_if_empty()
        return space

    @cached_property
    def reference(self) -> Point:
        """The experiment's own values, as a point."""
        base = self._base(None)
        return {axis: _own(base, axis, self.experiment, self.overrides) for axis in self.axes}

    def points(self) -> Iterator[Point]:
        """Yield every combination of the axes' values."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def refuse_if_empty(self) -> None:
        """Raise a `ConfigError` that counts the reasons if no point can run."""
        reasons: Counter[str] = Counter()
        for point in self.points():
            reason = self.reason(point)
            if reason is None:
                return
            reasons[reason] += 1
        counted = "\n".join(f"  {count} x {reason}" for reason, count in reasons.most_common(5))
        raise ConfigError(f"no point of the space can run on this machine:\n{counted}\nWiden an axis, or take another")

    def reason(self, point: Point) -> str | None:
        """Return why a point cannot run, None if it can as far as can be known before."""
        key = self._key(point)
        if key not in self._reasons:
            self._reasons[key] = self._reason(point)
        return self._reasons[key]

    def _reason(self, point: Point) -> str | None:
        if BATCH in point and point[BATCH] % point.get(UPDATES, 1):
            return f"{BATCH}={point[BATCH]} does not divide by {UPDATES}={point[UPDATES]}"
        config = self.reused_config(point)
        if config.trainer.device == "cuda" and layout.gpus_needed(config) > self.machine.gpus:
            return f"{layout.gpus_needed(config)} GPUs are needed, {self.machine.gpus} are there"
        errors = [finding for finding in config_findings(config) if finding.severity == "error"]
        if errors:
            return f"{errors[0].key}: {errors[0].reason}"
        real, padded = padded_sequences(config)
        if padded > real:
            return f"{MINI}: {real} rollouts would be padded to {padded}"
        gpu = self.machine.gpu
        shares = memory_shares(config, gpu)
        self._shares[self._key(point)] = shares.get("training", 0.0)
        for role, share in shares.items():
            if share > MEMORY_SHARE:
                return f"memory: {role} would take more than {MEMORY_SHARE:.0%} of a {gpu.name}'s {gpu.memory:.0f} GiB"
        return None

    def memory_share(self, point: Point) -> float:
        """Return the share of a GPU's memory that training is estimated to take; 0 if nothing is known.

        The other roles' shares are no estimates: vLLM takes what it is told.
        """
        self.reason(point)
        return self._shares.get(self._key(point), 0.0)

    def _key(self, point: Point) -> tuple[Any, ...]:
        return tuple(point[axis] for axis in self.axes)

    def reused_config(self, point: Point) -> DictConfig:
        """Return a point's configuration, unresolved and valid until the next call: a copy would take 30 ms."""
        name = point.get(LAYOUT)
        if name not in self._reused:
            self._reused[name] = copy.deepcopy(self._base(name))
        config = self._reused[name]
        # Every point sets the same keys, so nothing of the last one is left.
        _set(config, {**point, **derived_keys(self._base(name), point)})
        return config

    def config(self, point: Point | None) -> DictConfig:
        """Return a point's whole configuration, resolved; the experiment's own for None."""
        config = copy.deepcopy(self._base(None if point is None else point.get(LAYOUT)))
        if point is not None:
            _set(config, {**point, **derived_keys(config, point)})
        return finished(config)

    def values(self, point: Point) -> Point:
        """Return a point as keys and values of a named experiment, with all keys that are derived from it."""
        config = self._base(point.get(LAYOUT))
        named = {**point, **derived_keys(config, point)}
        return {key: value for key, value in named.items() if key != UPDATES}

    def cold(self, point: Point) -> tuple[Any, ...]:
        """Return what of a point only a new start of the trainer can change."""
        return tuple(point[axis] for axis in self.axes if axis not in WARM)

    def _base(self, name: str | None) -> DictConfig:
        """Return the configuration on a layout, references to other keys still in it."""
        if name not in self._bases:
            chosen = [f"layout={name}"] if name else []
            self._bases[name] = unresolved(self.experiment, [*self.overrides, *chosen])
        return self._bases[name]


def _own(config: DictConfig, axis: str, experiment: str, overrides: Sequence[str]) -> Any:
    """Return the experiment's own value of an axis."""
    if axis == LAYOUT:
        return own_layout(experiment, overrides)
    if axis == UPDATES:
        return max(1, round(config.data.train_batch_size / config.actor_rollout_ref.actor.ppo_mini_batch_size))
    value = OmegaConf.select(config, axis, default=None)
    if value is None:
        raise ConfigError(f"axis {axis}: there is no such key in {experiment}; run it with --dry-run to see every key")
    return value


def _ordered(values: list[Any]) -> tuple[Any, ...]:
    """Return the different values, numbers in ascending order."""
    different = list(dict.fromkeys(values))
    return tuple(sorted(different) if all(isinstance(value, int | float) for value in different) else different)


def _set(config: DictConfig, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key not in (LAYOUT, UPDATES):
            OmegaConf.update(config, key, value)


def derived_keys(config: DictConfig, point: Point) -> Point:
    """Return the keys that are derived from a point: mini- and micro-batches that pad nothing, and dynamic batches.

    The mini-batch is the batch, or an equal part of it. A micro-batch is the largest divisor of a GPU's share that is
    not larger than the experiment's own. `separate_async` takes as many batches a step as it makes updates.
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
            share = sequences // workers
            found[key] = max(size for size in range(1, own + 1) if share % size == 0)
    return found


def memory_shares(config: DictConfig, gpu: Gpu) -> dict[str, float]:
    """Return the share of a GPU's memory that each role takes as estimated; nothing where nothing is known."""
    planner = find_shape(config.actor_rollout_ref.model.path)
    if config.trainer.device != "cuda" or planner is None:
        return {}
    return {role: gib / gpu.memory for role, gib in memory(config, planner, gpu).items()}


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
