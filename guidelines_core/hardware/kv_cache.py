"""The size of each vLLM engine's KV cache, computed from the configuration and the GPU's memory.

Without a given size vLLM measures the GPU's free memory, which is wrong while another process starts on the same GPU.
With given sizes both engines can start at once.
"""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import changed
from guidelines_core.hardware.shapes import Gpu, Shape, find_shape

GIB = 2**30

RESERVED = 2 * GIB
"""Bytes that an engine takes besides weights, cache and activations: CUDA context, graphs, allocator overhead."""

STEP = 64 * 2**20
"""A cache's size is a multiple of this, in bytes."""


def with_cache_sizes(config: DictConfig, gpu: Callable[[], Gpu]) -> DictConfig:
    """Return `config` with `engine_kwargs.vllm.kv_cache_memory_bytes` of both engines set where it is not given.

    On a CPU, and for a model of unknown shape, nothing is set. `gpu` is called only if it is needed.
    """
    if config.trainer.device != "cuda":
        return config
    sizes = {}
    for key, model in (
        ("actor_rollout_ref.rollout", config.actor_rollout_ref.model.path),
        ("reward.reward_model.rollout", config.guidelines.solver.model),
    ):
        engine = OmegaConf.select(config, key)
        shape = find_shape(model)
        if shape is None or engine.engine_kwargs.vllm.kv_cache_memory_bytes is not None:
            continue
        sizes[f"{key}.engine_kwargs.vllm.kv_cache_memory_bytes"] = cache_bytes(engine, shape, gpu())
    return changed(config, sizes)


def cache_bytes(engine: DictConfig, shape: Shape, gpu: Gpu) -> int | None:
    """Return the bytes of keys and values that `engine` keeps on each of its GPUs.

    What `max_num_seqs` sequences of `max_model_len` tokens take, at most what `gpu_memory_utilization` leaves besides
    the weights. None if not even one sequence fits: vLLM then reports what is missing.
    """
    gpus = engine.tensor_model_parallel_size
    one = engine.max_model_len * shape.kv_bytes / gpus
    activations = (
        2 * engine.max_num_batched_tokens * (2 * shape.intermediate + 8 * shape.hidden)
        # Logits, their softmax and a copy to sort, in fp32 (`v1/sample/sampler.py`).
        + 3 * 4 * engine.max_num_seqs * shape.vocab
    )
    room = engine.gpu_memory_utilization * gpu.memory * GIB - 2 * shape.parameters / gpus - activations - RESERVED
    if room < one:
        return None
    return int(min(engine.max_num_seqs * one, room) // STEP * STEP)
