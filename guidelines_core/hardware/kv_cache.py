"""The size of each vLLM engine's cache of keys and values, from what a run asks of it and what its GPU holds.

vLLM would measure the GPU's free memory for it, which two processes that start on one GPU at once falsify for each
other; of given sizes, they start beside one another.
"""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import changed
from guidelines_core.hardware.shapes import Gpu, Shape, find_shape

GIB = 2**30

RESERVED = 2 * GIB
"""What an engine holds beside weights, cache and activations: CUDA's context, graphs, and the allocator's rest."""

STEP = 64 * 2**20
"""A cache's size is a multiple of this."""


def with_cache_sizes(config: DictConfig, gpu: Callable[[], Gpu]) -> DictConfig:
    """Return `config` with `engine_kwargs.vllm.kv_cache_memory_bytes` of both engines set where it is not given.

    It stays as it is on a CPU, and for a model whose shape is not known. `gpu` is called where it is needed.
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

    As much as `max_num_seqs` sequences of `max_model_len` tokens take, or what `gpu_memory_utilization` leaves beside
    the weights. None where not even one sequence fits: vLLM says what is missing.
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
