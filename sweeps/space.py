"""The points of a sweep, the configuration of each, and the reason why a point cannot run.

Each axis has the values in the space's YAML file and the experiment's own value.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, finished, unresolved
from guidelines_core.hardware.footprint import memory
from guidelines_core.hardware.shapes import Gpu, find_shape
from guidelines_core.hardware.timing import padded_sequences
from guidelines_core.preflight import config_findings
from sweeps.axes import BATCH, LAYOUT, MINI, UPDATES, WARM, Point, own_value, read_axes, value_findings, with_own_values
from sweeps.keys import derived_keys, set_point
from sweeps.machine import Machine

MEMORY_SHARE = 0.95
"""The share of a GPU's memory that a role's estimated peak may take."""

MOST_POINTS = 100_000
"""The largest number of points of a space: the sampler scores all untried ones before each trial."""

TRIED_AT_FIRST = 1000
"""The number of evenly spread points that are checked at first; at least one must be able to run."""


@dataclass(frozen=True)
class Space:
    """The points of one experiment on one machine.

    Attributes:
        experiment: the experiment's name.
        overrides: `key=value` arguments for every point.
        axes: each axis's values, including the experiment's own, numbers in ascending order.
        machine: the machine that runs the trials.
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
        """Read a space's YAML file for an experiment.

        Raises:
            ConfigError: the file does not hold a space, an axis is not a key of the experiment, or no point can run.
        """
        given = read_axes(file)
        base = unresolved(experiment, overrides)
        own = {axis: own_value(base, axis, experiment, overrides) for axis in given}
        findings = [text for axis, values in given.items() for text in value_findings(axis, values, own[axis])]
        axes = with_own_values(given, own) if not findings else {}
        if (points := math.prod(len(values) for values in axes.values())) > MOST_POINTS:
            findings.append(f"{points} points: expected {MOST_POINTS} at most; leave out values or an axis")
        if findings:
            raise ConfigError("\n".join(f"--space {file}: {text}" for text in findings))
        space = cls(experiment, tuple(overrides), axes, machine)
        space.refuse_if_empty()
        return space

    @cached_property
    def reference(self) -> Point:
        """The experiment's own values, as a point."""
        base = self._base(None)
        return {axis: own_value(base, axis, self.experiment, self.overrides) for axis in self.axes}

    def points(self) -> Iterator[Point]:
        """Yield every combination of the axes' values."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def refuse_if_empty(self) -> None:
        """Raise a `ConfigError` with the counted reasons if none of `TRIED_AT_FIRST` points can run."""
        step = math.ceil(math.prod(len(values) for values in self.axes.values()) / TRIED_AT_FIRST)
        reasons: Counter[str] = Counter()
        for point in itertools.islice(self.points(), 0, None, step):
            reason = self.reason(point)
            if reason is None:
                return
            reasons[reason] += 1
        counted = "\n".join(f"  {count} x {reason}" for reason, count in reasons.most_common(5))
        which = "no point of the space" if step == 1 else f"none of {reasons.total()} points (one in {step} was tried)"
        raise ConfigError(f"{which} can run on this machine:\n{counted}\nWiden an axis, or take another")

    def reason(self, point: Point) -> str | None:
        """Return the known reason why a point cannot run, None if there is none."""
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
        """Return the estimated share of a GPU's memory for training; 0 if it is unknown.

        The other roles are left out, since vLLM always takes its configured share.
        """
        self.reason(point)
        return self._shares.get(self._key(point), 0.0)

    def _key(self, point: Point) -> tuple[Any, ...]:
        return tuple(point[axis] for axis in self.axes)

    def reused_config(self, point: Point) -> DictConfig:
        """Return a point's configuration, unresolved and valid until the next call; copying it would take 30 ms."""
        name = point.get(LAYOUT)
        if name not in self._reused:
            self._reused[name] = copy.deepcopy(self._base(name))
        config = self._reused[name]
        # Every point sets the same keys and so replaces all of the last one's.
        set_point(config, {**point, **derived_keys(self._base(name), point)})
        return config

    def config(self, point: Point | None) -> DictConfig:
        """Return a point's complete configuration, resolved; for None, that of the experiment itself."""
        config = copy.deepcopy(self._base(None if point is None else point.get(LAYOUT)))
        if point is not None:
            set_point(config, {**point, **derived_keys(config, point)})
        return finished(config)

    def values(self, point: Point) -> Point:
        """Return a point's keys and values with all derived ones, as a named experiment lists them."""
        config = self._base(point.get(LAYOUT))
        named = {**point, **derived_keys(config, point)}
        return {key: value for key, value in named.items() if key != UPDATES}

    def cold(self, point: Point) -> tuple[Any, ...]:
        """Return the values of a point on the axes that a running trainer cannot change."""
        return tuple(point[axis] for axis in self.axes if axis not in WARM)

    def _base(self, name: str | None) -> DictConfig:
        """Return the unresolved configuration with layout `name`; None is the experiment's own layout."""
        if name not in self._bases:
            chosen = [f"layout={name}"] if name else []
            self._bases[name] = unresolved(self.experiment, [*self.overrides, *chosen])
        return self._bases[name]


def memory_shares(config: DictConfig, gpu: Gpu) -> dict[str, float]:
    """Return each role's estimated share of a GPU's memory; empty on a CPU or for a model of unknown shape."""
    planner = find_shape(config.actor_rollout_ref.model.path)
    if config.trainer.device != "cuda" or planner is None:
        return {}
    return {role: gib / gpu.memory for role, gib in memory(config, planner, gpu).items()}
