"""The ways to divide a number of GPUs among training, rollout and solver, and what a step takes in each.

The modes are those of verl's trainers `sync` and `separate_async`. `colocate_async` needs the GPUs of `sync`, and
guidelines that are unfinished when a step has its batch go on in the next; it is not estimated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, changed, compose
from guidelines_core.hardware.footprint import memory
from guidelines_core.hardware.scale import Terms, terms
from guidelines_core.hardware.shapes import Gpu, Shape
from guidelines_core.hardware.timing import Lengths, shapes_of, typical_lengths
from guidelines_core.preflight import config_findings

NODE = 8
"""GPUs of a node."""

ROLLOUT, SOLVER = "actor_rollout_ref.rollout", "reward.reward_model"


@dataclass(frozen=True)
class Mode:
    """A way to divide a node's GPUs.

    Attributes:
        name: in words; `ahead` is `separate_async`.
        layout: the experiment's layout that has its keys.
        pools: GPUs of a node are divided among so many pools: training, solver, rollout.
    """

    name: str
    layout: str
    pools: int


MODES = (
    Mode("sync, in turns", "hybrid-4-shared", 1),
    Mode("sync, solver apart", "hybrid-3p1", 2),
    Mode("ahead, rollout beside solver", "split-1p1-shared", 2),
    Mode("ahead, three pools", "split-1p2p1", 3),
)


@dataclass(frozen=True)
class Plan:
    """A mode on a number of GPUs: how many of a node each pool has, a step's prompts and rollouts, and its seconds."""

    mode: Mode
    split: tuple[int, ...]
    nodes: int
    prompts: int
    rollouts: int
    terms: Terms

    @property
    def gpus(self) -> str:
        """The GPUs of each pool in words: `6 + 2`."""
        return " + ".join(str(each * self.nodes) for each in self.split)


@dataclass(frozen=True)
class Refused:
    """A mode without a possible division of a number of GPUs, and why the one that is nearest to one is not."""

    mode: Mode
    why: str


class Scale:
    """The modes of experiment `name` with `overrides` on so many `gpu`s.

    Raises:
        ConfigError: the run is on CPUs, the solver runs elsewhere, or a model's shape is not known.
    """

    def __init__(self, name: str, overrides: Sequence[str], gpu: Gpu, lengths: Lengths | None = None) -> None:
        own = compose(name, overrides)
        if own.trainer.device != "cuda":
            raise ConfigError(f"trainer.device={own.trainer.device}: only runs on GPUs are estimated; give layout=…")
        if layout.solver_elsewhere(own):
            raise ConfigError("--gpus divides GPUs between planner and solver: expected a layout with a solver")
        self._gpu, self._gpus = gpu, layout.gpus_needed(own)
        self.lengths = lengths or typical_lengths(own)
        self._planner, solver = shapes_of(own)
        assert solver is not None
        self._solver = solver
        words = [word for word in overrides if not word.startswith("layout=")]
        self._bases = {mode: compose(name, [*words, f"layout={mode.layout}"]) for mode in MODES}

    def plans(self, gpus: int, grown: bool) -> Iterator[Plan | Refused]:
        """Yield for each mode its fastest division of `gpus`; `grown` enlarges the batch with them.

        Raises:
            ConfigError: `gpus` are no whole nodes.
        """
        check_nodes(gpus)
        factor = max(1, gpus // self._gpus) if grown else 1
        nodes = max(1, gpus // NODE)
        for mode, base in self._bases.items():
            config = writable(base)
            found: list[Plan] = []
            refused: list[tuple[int, str]] = []
            for split in splits(gpus // nodes, mode.pools):
                divide(config, base, mode, split, nodes, factor)
                if why := refusal(config, self._planner, self._gpu):
                    refused.append(why)
                    continue
                step = terms(config, self._planner, self._solver, self._gpu, self.lengths)
                prompts = config.data.train_batch_size
                found.append(Plan(mode, split, nodes, prompts, prompts * config.actor_rollout_ref.rollout.n, step))
            if found:
                yield min(found, key=lambda plan: plan.terms.step)
            elif refused:
                yield Refused(mode, min(refused, key=lambda errors: errors[0])[1])
            else:
                yield Refused(mode, f"expected {mode.pools} GPUs or more")


def check_nodes(gpus: int) -> None:
    """Refuse a number of GPUs that are not two or more of one node, or whole nodes.

    Raises:
        ConfigError: they are not.
    """
    if gpus < 2 or (gpus > NODE and gpus % NODE):
        raise ConfigError(f"--gpus {gpus}: expected 2 to {NODE}, or whole nodes: a multiple of {NODE}")


def splits(gpus: int, pools: int) -> list[tuple[int, ...]]:
    """Return every way to divide a node's `gpus` among `pools`, each of which gets one at least."""
    if pools == 1:
        return [(gpus,)]
    return [(first, *rest) for first in range(1, gpus - pools + 2) for rest in splits(gpus - first, pools - 1)]


def writable(base: DictConfig) -> DictConfig:
    """Return a copy for `divide`. One serves all divisions: a copy takes ten times as long as the estimate."""
    config = changed(base, {})
    OmegaConf.set_readonly(config, False)
    return config


def divide(
    config: DictConfig, base: DictConfig, mode: Mode, split: tuple[int, ...], nodes: int, factor: int = 1
) -> None:
    """Divide each node's GPUs by `split` in `config`, a writable copy of `base`, with `factor` times its batch."""
    _set(config, division(base, mode, split, nodes, factor))
    _set(config, engines(config))


def _set(config: DictConfig, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        OmegaConf.update(config, key, value)


def division(base: DictConfig, mode: Mode, split: tuple[int, ...], nodes: int, factor: int) -> dict[str, Any]:
    """Return the keys that divide each node's GPUs by `split`, with a batch of `factor` times that of `base`."""
    prompts = factor * base.data.train_batch_size
    mini = factor * base.actor_rollout_ref.actor.ppo_mini_batch_size
    if layout.separate(base):
        mini = prompts // base.trainer.v1.separate_async.parameter_sync_step
    epoch = max(1, base.guidelines.data.size // prompts)
    values = {
        "trainer.n_gpus_per_node": split[0],
        "trainer.nnodes": nodes,
        # A larger batch is through with the problems earlier.
        "trainer.total_epochs": max(base.trainer.total_epochs, math.ceil(base.trainer.total_training_steps / epoch)),
        f"{SOLVER}.n_gpus_per_node": split[min(1, mode.pools - 1)],
        f"{SOLVER}.nnodes": nodes,
        "data.train_batch_size": prompts,
        "actor_rollout_ref.actor.ppo_mini_batch_size": mini,
    }
    if not layout.separate(base):
        return {**values, f"{ROLLOUT}.n_gpus_per_node": split[0]}
    return {**values, f"{ROLLOUT}.n_gpus_per_node": split[-1], f"{ROLLOUT}.nnodes": nodes}


def engines(config: DictConfig) -> dict[str, Any]:
    """Return the keys that let the engines of `config` take as many sequences as occur, as the layouts do."""
    return {
        f"{ROLLOUT}.max_num_seqs": layout.rollout_sequences(config),
        f"{SOLVER}.rollout.max_num_seqs": layout.solver_sequences(config),
    }


def refusal(config: DictConfig, planner: Shape, gpu: Gpu) -> tuple[int, str] | None:
    """Return why a run cannot be divided so: preflight's errors, their number and the first, or 0 and the memory.

    The memory that a role needs may be 95 % of the GPU's. None if nothing is in the way.
    """
    errors = [finding for finding in config_findings(config) if finding.severity == "error"]
    if errors:
        return len(errors), f"{errors[0].key}={errors[0].value}: {errors[0].reason}"
    role, gib = max(memory(config, planner, gpu).items(), key=lambda item: item[1])
    if gib > 0.95 * gpu.memory:
        return 0, f"memory: {role} takes {gib:.0f} of {gpu.memory:.0f} GiB"
    return None
