"""What a step takes on more GPUs than the experiment's own, in each of verl's modes, and what limits it.

On top of `timing` it has what does not shrink with the number of GPUs, or grows: the network, the processes that
every rollout passes, and validation. It is an estimate: no run on more than two GPUs was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, changed, compose
from guidelines_core.hardware.footprint import memory
from guidelines_core.hardware.network import training_seconds, weights_seconds
from guidelines_core.hardware.shapes import KNOWN, Gpu, Shape
from guidelines_core.hardware.timing import MEASURED, Lengths, generation, phases, run_seconds, shapes_of

NODE = 8
"""GPUs of a node."""

ROLLOUT, SOLVER = "actor_rollout_ref.rollout", "reward.reward_model"


@dataclass(frozen=True)
class Mode:
    """One of verl's ways to divide a node's GPUs.

    Attributes:
        name: in words.
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
class Terms:
    """A step's seconds by what they are for.

    Attributes:
        generating, training: the seconds of each half, by part.
        ahead: whether both halves are done at once, the generation for the next step.
        hidden: seconds of the network that pass while training computes; in neither half.
    """

    generating: Mapping[str, float]
    training: Mapping[str, float]
    ahead: bool
    hidden: float

    @property
    def step(self) -> float:
        """Seconds of the step."""
        sides = sum(self.generating.values()), sum(self.training.values())
        return max(sides) if self.ahead else sum(sides)

    @property
    def limit(self) -> str:
        """The longest term, of the longer side where generation and training are done at once."""
        longer = max((self.generating, self.training), key=lambda side: sum(side.values()))
        terms = longer if self.ahead else {**self.generating, **self.training}
        return max(terms, key=terms.__getitem__)


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


def terms(config: DictConfig, planner: Shape, solver: Shape, gpu: Gpu, lengths: Lengths) -> Terms:
    """Return what a step of `config` takes, by part."""
    host = yaml.safe_load((KNOWN / "measured-host.yaml").read_text(encoding="utf-8"))
    settings, workers = config.guidelines, config.reward.num_workers
    sequences, samples = _rollouts(config), layout.solver_samples(config)

    def generated(config: DictConfig, count: int) -> tuple[float, float]:
        return generation(config, planner, solver, gpu, lengths, MEASURED, count, samples)

    (wrote, solved), floors = generated(config, sequences), generated(config, 1)
    unlimited = solved
    if layout.requests_in_flight(config) < sequences:
        limit = {"guidelines.solver.max_concurrency": sequences * workers}
        unlimited = generated(changed(config, limit), sequences)[1]
    found = phases(config, planner, solver, gpu, lengths, MEASURED)
    wire = training_seconds(config, planner, gpu, lengths)
    exposed = {name: max(0.0, wire[name] - found[name]) for name in wire}
    requests = (host["request_s"] + host["handing_s"] * samples) * sequences / workers
    grading = host["grading_s"] * sequences * samples / (settings.grader.workers * workers)
    generating = {
        "guidelines: token after token": floors[0],
        "guidelines: several at once": wrote - floors[0],
        "solutions: token after token": floors[1],
        "solutions: several at once": unlimited - floors[1],
        "solutions: max_concurrency": solved - unlimited,
        "requests: reward.num_workers": max(0.0, requests - solved),
        "verdicts: grader.workers": max(0.0, grading - max(solved, requests)),
        "waking and polling": found["gen"] - wrote - solved,
    }
    run = run_seconds(config, planner, solver, gpu, lengths, MEASURED)
    training = {
        "log-probs": found["old_log_prob"] + found.get("ref", 0.0),
        "update": found["update_actor"],
        "network beyond that": sum(exposed.values()),
        "weights to the engines": found["update_weights"] + weights_seconds(config, planner, gpu),
        "driver": max(MEASURED.other, host["rollout_s"] * sequences),
        "validation, a step's share": run["validations"] / config.trainer.total_training_steps,
    }
    return Terms(generating, training, layout.overlaps(config), sum(wire.values()) - sum(exposed.values()))


def _rollouts(config: DictConfig) -> int:
    return int(config.data.train_batch_size * config.actor_rollout_ref.rollout.n)


class Scale:
    """The modes of experiment `name` with `overrides` on so many `gpu`s.

    Raises:
        ConfigError: the solver runs elsewhere, or a model's shape is not known.
    """

    def __init__(self, name: str, overrides: Sequence[str], gpu: Gpu, lengths: Lengths) -> None:
        own = compose(name, overrides)
        if layout.solver_elsewhere(own):
            raise ConfigError("--gpus divides GPUs between planner and solver: expected a layout with a solver")
        self._gpu, self._lengths, self._gpus = gpu, lengths, layout.gpus_needed(own)
        self._planner, solver = shapes_of(own)
        assert solver is not None
        self._solver = solver
        words = [word for word in overrides if not word.startswith("layout=")]
        self._bases = {mode: compose(name, [*words, f"layout={mode.layout}"]) for mode in MODES}

    def plans(self, gpus: int, grown: bool) -> Iterator[Plan]:
        """Yield for each mode its fastest division of `gpus`; `grown` enlarges the batch with them.

        A mode none of whose divisions preflight would accept is left out.

        Raises:
            ConfigError: `gpus` are no whole nodes.
        """
        if gpus < 2 or (gpus > NODE and gpus % NODE):
            raise ConfigError(f"--gpus {gpus}: expected 2 to {NODE}, or whole nodes: a multiple of {NODE}")
        factor = max(1, gpus // self._gpus) if grown else 1
        nodes = max(1, gpus // NODE)
        for mode, base in self._bases.items():
            # One copy for all divisions: a copy takes ten times as long as the estimate.
            config = changed(base, {})
            OmegaConf.set_readonly(config, False)
            found = []
            for split in splits(gpus // nodes, mode.pools):
                _set(config, division(base, mode, split, nodes, factor))
                _set(config, engines(config))
                if fits(config, self._planner, self._gpu):
                    step = terms(config, self._planner, self._solver, self._gpu, self._lengths)
                    found.append(Plan(mode, split, nodes, config.data.train_batch_size, _rollouts(config), step))
            if found:
                yield min(found, key=lambda plan: plan.terms.step)


def _set(config: DictConfig, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        OmegaConf.update(config, key, value)


def splits(gpus: int, pools: int) -> list[tuple[int, ...]]:
    """Return every way to divide a node's `gpus` among `pools`, each of which gets one at least."""
    if pools == 1:
        return [(gpus,)]
    return [(first, *rest) for first in range(1, gpus - pools + 2) for rest in splits(gpus - first, pools - 1)]


def division(base: DictConfig, mode: Mode, split: tuple[int, ...], nodes: int, factor: int) -> dict[str, Any]:
    """Return the keys that divide each node's GPUs by `split`, with a batch of `factor` times that of `base`."""
    prompts = factor * base.data.train_batch_size
    mini = factor * base.actor_rollout_ref.actor.ppo_mini_batch_size
    values = {
        "trainer.n_gpus_per_node": split[0],
        "trainer.nnodes": nodes,
        f"{SOLVER}.n_gpus_per_node": split[min(1, mode.pools - 1)],
        f"{SOLVER}.nnodes": nodes,
        "data.train_batch_size": prompts,
        "actor_rollout_ref.actor.ppo_mini_batch_size": prompts if layout.separate(base) else mini,
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


def fits(config: DictConfig, planner: Shape, gpu: Gpu) -> bool:
    """Tell whether preflight accepts the division: the rollouts divide by the training GPUs, and memory suffices."""
    sequences = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    return bool(
        sequences % layout.training_gpus(config) == 0
        and max(memory(config, planner, gpu).values()) <= 0.95 * gpu.memory
    )
