"""A computed machine: it returns the result of a trial of the reference run without running it.

Seconds come from `hardware.timing` and memory from `hardware.footprint`. A seed varies the speed of each part of a
step, the lengths of texts and the memory, as a real machine differs from the estimate. Each rate has noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from guidelines_core.config.layout import rollout_engines
from guidelines_core.hardware.footprint import memory, micro_batch_tokens
from guidelines_core.hardware.timing import MEASURED, Lengths, phases, shapes_of, step_seconds
from sweeps.axes import Point
from sweeps.space import Space

SPREAD_OF_LENGTHS = 0.5
"""Standard deviation of the logarithm of a text's length."""


@dataclass(frozen=True)
class Outcome:
    """A trial's result: graded rollouts a second without and with noise, truncated share, and whether it failed."""

    true_rate: float
    rate: float
    truncated: float
    out_of_memory: bool


class Surface:
    """The computed machine of one seed."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self.seed = space, seed
        draw = np.random.default_rng([seed, 0])
        off = draw.lognormal(0, 0.25, size=5)
        self._efficiency = replace(
            MEASURED,
            update=MEASURED.update * off[0],
            forward=MEASURED.forward * off[1],
            packed_update=MEASURED.packed_update * off[0],
            packed_forward=MEASURED.packed_forward * off[1],
            decode=MEASURED.decode * off[2],
            weights=min(0.9, MEASURED.weights * off[3]),
            other=MEASURED.other * 5 * off[4],
        )
        self._medians = {"guideline": draw.uniform(250, 600), "solution": draw.uniform(350, 700)}
        self._memory_factor, self._memory_more = draw.uniform(0.9, 1.35), draw.uniform(0, 8)
        self._full_speed_tokens = draw.uniform(4_000, 20_000)
        self._shapes = shapes_of(space.config(None))
        self._known: dict[tuple[object, ...], Outcome] = {}

    def exact(self, point: Point) -> Outcome:
        """Return a point's result without noise."""
        key = tuple(point.values())
        if key not in self._known:
            self._known[key] = self._exact(read(self._space, point))
        return self._known[key]

    def sample(self, point: Point, noise: np.random.Generator) -> Outcome:
        """Return a point's result with a noise of 3 % on its rate."""
        exact = self.exact(point)
        return replace(exact, rate=exact.rate * noise.lognormal(0, 0.03))

    def best(self) -> float:
        """Return the highest true rate of a point that can run, does not run out of memory and truncates little."""
        outcomes = (self.exact(point) for point in self._space.points() if self._space.reason(point) is None)
        return max(a.true_rate for a in outcomes if not a.out_of_memory and a.truncated <= 0.05)

    def _exact(self, config: Any) -> Outcome:
        limits = {"guideline": config.data.max_response_length, "solution": config.guidelines.solver.max_tokens}
        shares, means = {}, {}
        for kind, limit in limits.items():
            shares[kind], means[kind] = cut(self._medians[kind], limit)
        planner, solver = self._shapes
        gpu = self._space.machine.gpu
        lengths = Lengths(165, round(means["guideline"]), round(means["solution"]))
        found = phases(config, planner, solver, gpu, lengths, self._efficiency)
        # Small micro-batches do not use all of the GPU.
        tokens = micro_batch_tokens(config)
        slower = (tokens + self._full_speed_tokens) / tokens
        for phase in ("update_actor", "old_log_prob", "ref"):
            found[phase] = found.get(phase, 0.0) * slower
        # Sequences that do not fit in the engine's KV cache wait for the next wave.
        room = config.actor_rollout_ref.rollout.gpu_memory_utilization * gpu.memory * 2**30 - 2 * planner.parameters
        at_once = max(1.0, room / (planner.kv_bytes * (165 + means["guideline"])))
        rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
        found["gen"] *= math.ceil(rollouts / rollout_engines(config) / at_once)
        peak = memory(config, planner, gpu)
        seconds = step_seconds(config, found, self._efficiency)
        return Outcome(
            true_rate=rollouts / seconds,
            rate=rollouts / seconds,
            truncated=max(shares.values()),
            out_of_memory=peak["training"] * self._memory_factor + self._memory_more > gpu.memory,
        )


READ = (
    "actor_rollout_ref.model.use_remove_padding", "actor_rollout_ref.model.use_fused_kernels",
    "actor_rollout_ref.model.lora_rank",
    "actor_rollout_ref.actor.optim.override_optimizer_config", "actor_rollout_ref.ref.fsdp_config.model_dtype",
    "guidelines.solver.max_concurrency", "reward.num_workers", "reward.reward_model.rollout.free_cache_engine",
    "algorithm.use_kl_in_reward", "data.train_batch_size", "data.max_prompt_length", "data.max_response_length",
    "guidelines.solver.max_tokens", "trainer.n_gpus_per_node", "trainer.nnodes", "trainer.v1.trainer_mode",
    "trainer.v1.separate_async.parameter_sync_step", "actor_rollout_ref.model.enable_gradient_checkpointing",
    "actor_rollout_ref.actor.use_kl_loss", "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ppo_epochs", "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.fsdp_config.param_offload", "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu", "actor_rollout_ref.ref.fsdp_config.param_offload",
    "actor_rollout_ref.rollout.n", "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.data_parallel_size", "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.gpu_memory_utilization", "actor_rollout_ref.rollout.nnodes",
    "actor_rollout_ref.rollout.n_gpus_per_node", "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    "reward.reward_model.n_gpus_per_node", "reward.reward_model.nnodes", "reward.reward_model.enable_resource_pool",
    "reward.reward_model.enable", "reward.reward_model.rollout.tensor_model_parallel_size",
    "reward.reward_model.rollout.data_parallel_size",
    "reward.reward_model.rollout.max_num_seqs", "reward.reward_model.rollout.gpu_memory_utilization",
)  # fmt: skip
"""The keys of a configuration that an estimate reads."""

_plain: dict[tuple[object, ...], Any] = {}


def read(space: Space, point: Point) -> Any:
    """Return the keys `READ` of a point's configuration as plain objects, which are fifty times as fast."""
    key = (id(space), *point.values())
    if key not in _plain:
        config = space.reused_config(point)
        _plain[key] = root = SimpleNamespace()
        for name in READ:
            *sections, last = name.split(".")
            place = root
            for section in sections:
                place = place.__dict__.setdefault(section, SimpleNamespace())
            setattr(place, last, OmegaConf.select(config, name))
    return _plain[key]


def cut(median: float, limit: int) -> tuple[float, float]:
    """Return the share of texts that a limit cuts and their mean length after it; lengths are log-normal, in tokens."""
    normal, sigma = NormalDist(), SPREAD_OF_LENGTHS
    at = (math.log(limit) - math.log(median)) / sigma
    share = 1 - normal.cdf(at)
    below = median * math.exp(sigma**2 / 2) * normal.cdf(at - sigma)
    return share, below + share * limit
