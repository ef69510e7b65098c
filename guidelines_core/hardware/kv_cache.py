"""The size of each vLLM engine's KV cache, computed from the configuration and the GPU's memory.

Without a given size vLLM measures the GPU's free memory, which is wrong while another process starts on the same GPU.
With given sizes both engines can start at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import changed
from guidelines_core.hardware.shapes import Gpu, Shape, find_shape

GIB = 2**30

RESERVED = 2 * GIB
"""Bytes that an engine takes besides weights, cache and activations: CUDA context, graphs, allocator overhead."""

SIZE = "engine_kwargs.vllm.kv_cache_memory_bytes"
"""The key of a cache's size, below an engine's section."""

STEP = 64 * 2**20
"""A cache's size is a multiple of this, in bytes."""


def with_cache_sizes(config: DictConfig, gpu: Callable[[], Gpu]) -> DictConfig:
    """Return `config` with `engine_kwargs.vllm.kv_cache_memory_bytes` of the run's engines set where it is not given.

    Two engines on the same GPUs share their memory, and `gpu_memory_utilization` becomes what each takes of it. On a
    CPU, and for a model of unknown shape, nothing is set. `gpu` is called only if it is needed.
    """
    if config.trainer.device != "cuda":
        return config
    engines = {}
    models = {"actor_rollout_ref.rollout": config.actor_rollout_ref.model.path}
    if not layout.solver_elsewhere(config):
        models["reward.reward_model.rollout"] = config.guidelines.solver.model
    for key, model in models.items():
        engine = OmegaConf.select(config, key)
        shape = find_shape(model)
        if shape is not None and engine.engine_kwargs.vllm.kv_cache_memory_bytes is None:
            engines[key] = (engine, shape)
    if len(engines) == 2 and layout.beside_solver(config):
        return changed(config, _shared_sizes(engines, gpu()))
    return changed(config, {f"{key}.{SIZE}": cache_bytes(*engine, gpu()) for key, engine in engines.items()})


def cache_bytes(engine: DictConfig, shape: Shape, gpu: Gpu) -> int | None:
    """Return the bytes of keys and values that `engine` keeps on each of its GPUs.

    What `max_num_seqs` sequences of `max_model_len` tokens take, at most what `gpu_memory_utilization` leaves besides
    the weights. None if not even one sequence fits: vLLM then reports what is missing.
    """
    return _within(engine, shape, _room(engine, shape, gpu))


def _shared_sizes(engines: Mapping[str, tuple[DictConfig, Shape]], gpu: Gpu) -> dict[str, Any]:
    """Return the cache and the share of the memory of each of the engines that are on the same GPUs and work at once.

    If the engines' shares together do not hold every sequence at its longest, what is left besides weights and
    activations is divided as these needs are. vLLM starts an engine only if its share of the memory is free, so each
    gets the share that it will take.
    """
    rooms = {key: _room(*engine, gpu) for key, engine in engines.items()}
    needs = {key: engine.max_num_seqs * _sequence(engine, shape) for key, (engine, shape) in engines.items()}
    part = min(1.0, sum(rooms.values()) / sum(needs.values()))
    found: dict[str, Any] = {}
    for key, (engine, shape) in engines.items():
        size = _within(engine, shape, part * needs[key])
        found[f"{key}.{SIZE}"] = size
        if size is not None:
            share = engine.gpu_memory_utilization + (size - rooms[key]) / (gpu.memory * GIB)
            found[f"{key}.gpu_memory_utilization"] = math.floor(1000 * share) / 1000
    return found


def _within(engine: DictConfig, shape: Shape, room: float) -> int | None:
    """Return the cache's bytes within `room` bytes, None if not even one sequence fits."""
    one = _sequence(engine, shape)
    return None if room < one else int(min(engine.max_num_seqs * one, room) // STEP * STEP)


def _sequence(engine: DictConfig, shape: Shape) -> float:
    """Return the bytes of keys and values of the longest sequence on each of the engine's GPUs."""
    return float(engine.max_model_len * shape.kv_bytes / engine.tensor_model_parallel_size)


def _room(engine: DictConfig, shape: Shape, gpu: Gpu) -> float:
    """Return the bytes that `gpu_memory_utilization` leaves besides weights, activations and what vLLM itself takes."""
    activations = (
        2 * engine.max_num_batched_tokens * (2 * shape.intermediate + 8 * shape.hidden)
        # Logits, their softmax and a copy to sort, in fp32 (`v1/sample/sampler.py`).
        + 3 * 4 * engine.max_num_seqs * shape.vocab
    )
    weights = 2 * shape.parameters / engine.tensor_model_parallel_size
    return float(engine.gpu_memory_utilization * gpu.memory * GIB - weights - activations - RESERVED)
