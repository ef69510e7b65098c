"""How long the collectives of training take: weights and gradients between its GPUs, weights to the rollout engines.

A ring of W GPUs moves (W-1)/W of the bytes over its slowest link in W-1 hops, each with a latency (Thakur et al. 2005,
doi 10.1177/1094342005051521). The latencies are those by which NCCL itself chooses an algorithm (`src/graph/tuning.cc`,
ring, protocol Simple). Bandwidths are the hardware's own, so the seconds are lower bounds.
"""

from __future__ import annotations

import math

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.footprint import trained_parameters
from guidelines_core.hardware.shapes import Gpu, Shape
from guidelines_core.hardware.timing import PADDING_TOKENS, Lengths, padded_sequences

START_S, LINK_S, NETWORK_S = 8.4e-6, 3.4e-6, 9.6e-6
"""Latency of a collective's start, of a hop within a node and of one between nodes."""


def collective(size: float, pieces: int, per_node: int, nodes: int, gpu: Gpu) -> float:
    """Return the seconds in which `per_node` GPUs of each of `nodes` nodes gather or reduce `size` bytes of `pieces`.

    Each node sends over as many network adapters as it has GPUs in the ring.
    """
    workers = per_node * nodes
    if workers == 1:
        return 0.0
    bandwidth = gpu.link if nodes == 1 else min(gpu.link, per_node * gpu.network)
    latency = START_S + (workers - nodes) * LINK_S + (nodes - 1) * NETWORK_S
    return pieces * latency + size * (workers - 1) / workers / bandwidth


def training_seconds(config: DictConfig, planner: Shape, gpu: Gpu, lengths: Lengths) -> dict[str, float]:
    """Return a step's seconds of communication by training phase, as if nothing was computed meanwhile.

    FSDP gathers bf16 weights for each forward and each backward pass of a micro-batch, and reduces fp32 gradients after
    each backward pass, or after the last one of a mini-batch with `use_no_sync_for_gradient_accumulation`.
    """
    actor, ref = config.actor_rollout_ref.actor, config.actor_rollout_ref.ref
    ring = (planner.layers + 1, config.trainer.n_gpus_per_node, config.trainer.nnodes, gpu)
    gather = collective(2 * planner.parameters, *ring)
    reduce = collective(4 * trained_parameters(config, planner), *ring)
    batches, updates = _batches(config)
    passes = batches * updates * micro_batches(config, lengths, actor.ppo_micro_batch_size_per_gpu, updates)
    reduced = batches * updates if actor.fsdp_config.use_no_sync_for_gradient_accumulation else passes
    found = {"update_actor": actor.ppo_epochs * (2 * passes * gather + reduced * reduce)}
    rollout = config.actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu
    every = config.guidelines.old_log_probs.check_every if layout.old_log_probs_from_rollout(config) else 1
    found["old_log_prob"] = batches * micro_batches(config, lengths, rollout, 1) * gather / every
    if layout.uses_reference(config):
        own = ref.log_prob_micro_batch_size_per_gpu
        found["ref"] = batches * micro_batches(config, lengths, own, 1) * gather
    return found


def _batches(config: DictConfig) -> tuple[int, int]:
    """Return the batches of a step and the optimizer steps of each."""
    n = config.actor_rollout_ref.rollout.n
    real, padded = padded_sequences(config)
    mini = config.actor_rollout_ref.actor.ppo_mini_batch_size * n
    return config.data.train_batch_size * n // real, max(1, padded // mini)


def micro_batches(config: DictConfig, lengths: Lengths, rows: int | None, parts: int) -> int:
    """Return the micro-batches on each GPU of one of the `parts` of a batch; `rows` each where sizes are fixed."""
    real, padded = padded_sequences(config)
    workers = layout.training_gpus(config)
    actor = config.actor_rollout_ref.actor
    found: float = padded / workers / parts / (rows or 1)
    if actor.use_dynamic_bsz:
        tokens = real * (lengths.prompt + lengths.guideline) + (padded - real) * PADDING_TOKENS
        found = tokens / workers / parts / actor.ppo_max_token_len_per_gpu
    return math.ceil(found)


def weights_seconds(config: DictConfig, planner: Shape, gpu: Gpu) -> float:
    """Return the seconds in which bf16 weights reach the rollout engines, without loading them.

    The training GPUs gather them, a matrix at a time. A rollout of its own gets them from the first training GPU alone
    (`verl/checkpoint_engine/nccl_checkpoint_engine.py`).
    """
    size = 2 * planner.parameters
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    gathered = collective(size, 7 * planner.layers + 1, trainer.n_gpus_per_node, trainer.nnodes, gpu)
    if not layout.separate(config):
        return gathered
    return gathered + size / (gpu.link if trainer.nnodes == rollout.nnodes == 1 else gpu.network)
