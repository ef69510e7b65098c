"""What a run holds: each role's memory on a GPU, and the checkpoints on disk."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from guidelines_core import layout
from guidelines_core.shapes import Gpu, Shape

GIB = 2**30


def memory(config: DictConfig, planner: Shape, gpu: Gpu) -> dict[str, float]:
    """Return each role's peak on one of its GPUs, in GiB, with every sequence as long as the limits allow.

    Roles as in `layout.placements`. Training holds 16 bytes a weight, sharded, and the reference policy unless
    offloaded; on top, while a micro-batch is computed, the largest layer unsharded, the checkpointed activations and,
    without fused kernels, three copies of the logits in bf16 (the logits, their log-softmax and their gradient), or,
    while Adam steps, a copy of the gradients unless fused. In the other turns of its GPU the actor keeps 12 bytes a
    weight unless offloaded; vLLM takes its `gpu_memory_utilization` whatever the model.
    `analysis/results/update-h200.json` has measured peaks.
    """
    model, actor = config.actor_rollout_ref.model, config.actor_rollout_ref.actor
    weights = planner.parameters
    workers = layout.training_gpus(config)
    tokens = micro_batch_tokens(config)
    layers = planner.layers + 17 if model.enable_gradient_checkpointing else 17 * planner.layers
    micro_batch = (
        2 * 2 * max(planner.vocab * planner.hidden, 3 * planner.hidden * planner.intermediate)
        + 2 * tokens * planner.hidden * layers
        + (0 if model.use_fused_kernels else 3 * 2 * tokens * planner.vocab)
    )
    optimizer = 0 if (actor.optim.override_optimizer_config or {}).get("fused") else 4 * weights / workers
    training = 16 * weights / workers + reference_bytes(config, planner) + max(micro_batch, optimizer)
    offload = actor.fsdp_config
    resting = (4 * (not offload.param_offload) + 8 * (not offload.optimizer_offload)) * weights / workers
    beside = 0 if layout.separate(config) else resting / GIB
    solver = config.reward.reward_model.rollout.gpu_memory_utilization * gpu.memory
    return {
        "training": training / GIB,
        "rollout": config.actor_rollout_ref.rollout.gpu_memory_utilization * gpu.memory + beside,
        "solver": solver if layout.solver_gpus(config) else solver + resting / GIB,
    }


def reference_bytes(config: DictConfig, planner: Shape) -> float:
    """Return the bytes that the reference policy keeps on each training GPU."""
    fsdp = config.actor_rollout_ref.ref.fsdp_config
    if fsdp.param_offload or not layout.uses_reference(config):
        return 0
    return (2 if fsdp.model_dtype in ("bf16", "bfloat16") else 4) * planner.parameters / layout.training_gpus(config)


def micro_batch_tokens(config: DictConfig) -> int:
    """Return the tokens of the actor's largest micro-batch."""
    actor = config.actor_rollout_ref.actor
    if actor.use_dynamic_bsz:
        return int(actor.ppo_max_token_len_per_gpu)
    micro = max(actor.ppo_micro_batch_size_per_gpu, config.actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu)
    return int(micro * (config.data.max_prompt_length + config.data.max_response_length))


def checkpoint_bytes(planner: Shape) -> int:
    """Return a checkpoint's size: weights and Adam's two moments in fp32."""
    return 12 * planner.parameters


def checkpoints(config: DictConfig) -> int:
    """Return how many checkpoints a run writes: one every `save_freq` steps and one at the end."""
    freq, steps = config.trainer.save_freq, config.trainer.total_training_steps
    return math.ceil(steps / freq) if freq > 0 else 0
