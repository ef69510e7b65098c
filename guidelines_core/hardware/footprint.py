"""The memory and disk that a run takes: each role's GPU memory, main memory, and checkpoints."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.shapes import Gpu, Shape

GIB = 2**30

PROCESSES_GIB = 11.0
"""Main memory of a run's processes without offloaded weights, with two engines and eight agent workers: the sum of the
measured PSS of each on a CPU, without CUDA contexts."""


def memory(config: DictConfig, planner: Shape, gpu: Gpu) -> dict[str, float]:
    """Return each role's peak on one of its GPUs, in GiB, with every sequence as long as the limits allow.

    Roles as in `layout.placements`. Training holds 16 bytes a trained weight and 4 a frozen one, sharded, and the
    reference policy unless offloaded; on top, while a micro-batch is computed, the largest layer unsharded, the
    checkpointed activations and, without fused kernels, three copies of the logits in bf16 (the logits, their
    log-softmax and their gradient), or, while Adam steps, a copy of the gradients unless fused, or, while LoRA adapters
    are merged for the rollout engine, the weights without them (`verl_adapter/adapters.py`) and all weights unsharded.
    In the other turns of its GPU the actor keeps 12 bytes a trained weight, 4 a frozen one, and the reference policy
    its own, unless offloaded; vLLM takes its `gpu_memory_utilization` whatever the model. Measured peaks are in
    `analysis/results/update-h200.json` and, of a planner with LoRA whose weights were kept in main memory while the
    adapters were merged, 16.3 GiB, in `analysis/results/learning/gsm8k-1.5b.json`.
    """
    model, actor = config.actor_rollout_ref.model, config.actor_rollout_ref.actor
    workers = layout.training_gpus(config)
    tokens = micro_batch_tokens(config)
    layers = planner.layers + 17 if model.enable_gradient_checkpointing else 17 * planner.layers
    micro_batch = (
        2 * 2 * max(planner.vocab * planner.hidden, 3 * planner.hidden * planner.intermediate)
        + 2 * tokens * planner.hidden * layers
        + (0 if model.use_fused_kernels else 3 * 2 * tokens * planner.vocab)
    )
    trained = trained_parameters(config, planner)
    optimizer = 0 if (actor.optim.override_optimizer_config or {}).get("fused") else 4 * trained / workers
    frozen = 4 * (held_parameters(config, planner) - trained)
    merging = 4 * planner.parameters * (1 + 1 / workers) if layout.lora_rank(config) else 0
    largest = max(micro_batch, optimizer, merging)
    training = (16 * trained + frozen) / workers + reference_bytes(config, planner) + largest
    offload = actor.fsdp_config
    resting = 4 * held_parameters(config, planner) * (not offload.param_offload) / workers
    resting += 8 * trained * (not offload.optimizer_offload) / workers
    resting += reference_bytes(config, planner)
    beside = 0 if layout.separate(config) else resting / GIB
    found = {
        "training": training / GIB,
        "rollout": config.actor_rollout_ref.rollout.gpu_memory_utilization * gpu.memory + beside,
    }
    if layout.solver_elsewhere(config):
        return found
    solver = config.reward.reward_model.rollout.gpu_memory_utilization * gpu.memory
    return {**found, "solver": solver + (resting / GIB if layout.solver_in_turns(config) else 0)}


def trained_parameters(config: DictConfig, planner: Shape) -> int:
    """Return how many weights are trained: the adapters' with LoRA, else all."""
    rank = layout.lora_rank(config)
    return planner.adapter_parameters(rank) if rank else planner.parameters


def held_parameters(config: DictConfig, planner: Shape) -> int:
    """Return how many weights the actor holds: the model's, and the adapters' with LoRA."""
    return planner.parameters + (trained_parameters(config, planner) if layout.lora_rank(config) else 0)


def reference_bytes(config: DictConfig, planner: Shape) -> float:
    """Return the bytes that the reference policy keeps on each training GPU."""
    fsdp = config.actor_rollout_ref.ref.fsdp_config
    if fsdp.param_offload or not layout.loads_reference(config):
        return 0
    return (2 if fsdp.model_dtype in ("bf16", "bfloat16") else 4) * planner.parameters / layout.training_gpus(config)


def host_memory(config: DictConfig, planner: Shape, solver: Shape | None) -> dict[str, float]:
    """Return what a node's main memory holds at the end of a step, in GiB, by part.

    What is offloaded lies in page-locked memory: torch takes it for each copy from a GPU that does not block, and
    rounds each piece up to a power of two (`ATen/core/CachingHostAllocator.h`). A piece is a layer's fp32 shard, or
    the embeddings'. FSDP adds to an offloaded policy's weights a gradient of the same size, though the reference
    policy never has one (`torch/distributed/fsdp/_flat_param.py`). A solver that shares the training GPUs leaves
    its weights in main memory when it sleeps (vLLM's sleep level 1); the planner's engine does not (level 2). What
    Ray's object store and CUDA itself take is not counted.
    """
    actor, ref = config.actor_rollout_ref.actor, config.actor_rollout_ref.ref
    one = _offloaded(planner, 4, layout.training_gpus(config)) * config.trainer.n_gpus_per_node
    trained = trained_parameters(config, planner) / held_parameters(config, planner)
    reference = layout.loads_reference(config) and ref.fsdp_config.param_offload
    sleeps = layout.solver_in_turns(config) and config.reward.reward_model.rollout.free_cache_engine
    return {
        "actor": one * actor.fsdp_config.param_offload / GIB,
        "optimizer": 2 * one * trained * actor.fsdp_config.optimizer_offload / GIB,
        "reference": (1 if ref.strategy == "fsdp2" else 2) * one * reference / GIB,
        "solver": _sleeping(solver) * layout.solver_engines(config) / GIB if sleeps and solver else 0.0,
        "processes": PROCESSES_GIB,
    }


def _offloaded(shape: Shape, each: int, workers: int) -> int:
    """Return the page-locked bytes of one worker's shard of all weights, `each` bytes a weight."""
    embeddings = shape.vocab * shape.hidden * (1 if shape.tied else 2)
    layer = (shape.parameters - embeddings) // shape.layers
    return shape.layers * _pinned(each * layer // workers) + _pinned(each * embeddings // workers)


def _sleeping(shape: Shape) -> int:
    """Return the page-locked bytes of a vLLM engine's bf16 weights, one piece for each matrix that it has."""
    attention = (shape.heads + 2 * shape.kv_heads, shape.heads)
    columns = (*(heads * shape.head_dim for heads in attention), 2 * shape.intermediate, shape.intermediate)
    embeddings = (1 if shape.tied else 2) * _pinned(2 * shape.vocab * shape.hidden)
    return shape.layers * sum(_pinned(2 * shape.hidden * width) for width in columns) + embeddings


def _pinned(size: int) -> int:
    """Return the bytes that torch's allocator of page-locked memory takes for `size` bytes."""
    return 1 << (size - 1).bit_length()


def micro_batch_tokens(config: DictConfig) -> int:
    """Return the tokens of the actor's largest micro-batch."""
    actor = config.actor_rollout_ref.actor
    if actor.use_dynamic_bsz:
        return int(actor.ppo_max_token_len_per_gpu)
    micro = max(actor.ppo_micro_batch_size_per_gpu, config.actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu)
    return int(micro * (config.data.max_prompt_length + config.data.max_response_length))


def checkpoint_bytes(config: DictConfig, planner: Shape) -> int:
    """Return a checkpoint's size: what is trained, and Adam's two moments of it, in fp32."""
    return 12 * trained_parameters(config, planner)


def checkpoints(config: DictConfig) -> int:
    """Return how many checkpoints a run writes: one every `save_freq` steps and one at the end."""
    freq, steps = config.trainer.save_freq, config.trainer.total_training_steps
    return math.ceil(steps / freq) if freq > 0 else 0
