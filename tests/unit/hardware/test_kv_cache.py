from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import compose
from guidelines_core.hardware.kv_cache import GIB, STEP, cache_bytes, with_cache_sizes
from guidelines_core.hardware.shapes import Gpu, Shape, find_shape, gpus

KEY = "engine_kwargs.vllm.kv_cache_memory_bytes"
H100 = gpus()["H100"]
FOUND = find_shape("Qwen/Qwen2.5-3B-Instruct")
assert FOUND is not None
SHAPE: Shape = FOUND


def sizes(*overrides: str, gpu: Gpu = H100) -> tuple[int | None, int | None]:
    config = with_cache_sizes(compose("numinamath30k-3b-300steps", overrides, environ={}), lambda: gpu)
    engines = config.actor_rollout_ref.rollout, config.reward.reward_model.rollout
    return OmegaConf.select(engines[0], KEY), OmegaConf.select(engines[1], KEY)


def engine(sequences: int, length: int, share: float, gpus_each: int = 1) -> DictConfig:
    return OmegaConf.create(
        {
            "max_num_seqs": sequences,
            "max_model_len": length,
            "max_num_batched_tokens": 8192,
            "gpu_memory_utilization": share,
            "tensor_model_parallel_size": gpus_each,
        }
    )


def test_a_small_run_gets_a_cache_for_its_own_texts_and_no_more() -> None:
    rollout, solver = sizes(
        "layout=1p1", "data.train_batch_size=8", "guidelines.data.val_size=32", "actor_rollout_ref.rollout.n=4"
    )
    tokens = 32 * (3072 + 3072)
    assert rollout == tokens * SHAPE.kv_bytes // STEP * STEP
    assert solver == 32 * (3 * 3072 + 256) * SHAPE.kv_bytes // STEP * STEP


def test_a_large_run_gets_what_its_share_of_the_gpu_leaves() -> None:
    rollout, solver = sizes("layout=1p1")
    assert rollout is not None
    assert solver is not None
    assert 15 * GIB < rollout < 0.4 * H100.memory * GIB - 2 * SHAPE.parameters
    assert 50 * GIB < solver < 0.9 * H100.memory * GIB - 2 * SHAPE.parameters
    assert sizes("layout=1p1", gpu=gpus()["H200"])[0] > rollout  # type: ignore[operator]


def test_a_solver_elsewhere_has_no_cache_here() -> None:
    rollout, solver = sizes("layout=train-only-1")
    assert rollout == sizes("layout=1p1")[0]
    assert solver is None


def test_a_size_that_is_given_stays() -> None:
    assert sizes(f"actor_rollout_ref.rollout.{KEY}=12884901888")[0] == 12884901888


def test_a_model_without_a_known_shape_and_a_cpu_are_left_alone() -> None:
    assert sizes("actor_rollout_ref.model.path=nobody/knows-it", "guidelines.solver.model=nobody/knows-it") == (
        None,
        None,
    )
    config = compose("quickstart", environ={})
    before = config.copy()

    def no_gpu() -> Gpu:
        raise AssertionError("a run on a CPU asks for no GPU")

    assert with_cache_sizes(config, no_gpu) == before


@given(
    st.integers(8, 1024),
    st.integers(256, 32768),
    st.floats(0.1, 0.95),
    st.floats(16, 192),
    st.sampled_from([1, 2]),
)
def test_a_cache_holds_one_sequence_and_fits_beside_the_weights(
    sequences: int, length: int, share: float, memory: float, gpus_each: int
) -> None:
    asked = engine(sequences, length, share, gpus_each)
    found = cache_bytes(asked, SHAPE, replace(H100, memory=memory))
    one = length * SHAPE.kv_bytes / gpus_each
    if found is None:
        return
    assert found % STEP == 0
    assert one - STEP < found <= sequences * one
    assert found + 2 * SHAPE.parameters / gpus_each < share * memory * GIB


@pytest.mark.parametrize("gpu", ["H100", "H200"])
@pytest.mark.parametrize("tokens", [600, 3072])
def test_two_engines_on_one_gpu_share_it_as_their_texts_need_it(gpu: str, tokens: int) -> None:
    words = ("layout=split-1p1-shared", f"data.max_response_length={tokens}")
    composed = compose("numinamath30k-3b-300steps-mathverify-fast", words, environ={})
    config = with_cache_sizes(composed, lambda: gpus()[gpu])
    engines = config.actor_rollout_ref.rollout, config.reward.reward_model.rollout
    caches = [OmegaConf.select(engine, KEY) for engine in engines]
    needs = [engine.max_num_seqs * engine.max_model_len * SHAPE.kv_bytes for engine in engines]
    if sum(caches) < 0.99 * sum(needs):
        assert caches[0] / caches[1] == pytest.approx(needs[0] / needs[1], rel=0.01)
        assert sum(engine.gpu_memory_utilization for engine in engines) == pytest.approx(0.9, abs=0.004)
    else:
        assert (gpu, tokens) == ("H200", 600)
        assert sum(engine.gpu_memory_utilization for engine in engines) < 0.9
    for engine, cache in zip(engines, caches, strict=True):
        rest = engine.gpu_memory_utilization * gpus()[gpu].memory * GIB - cache - 2 * SHAPE.parameters
        assert 2 * GIB < rest < 6 * GIB


def test_engines_on_a_gpu_that_is_too_small_are_left_to_vllm() -> None:
    small = sizes(
        "layout=split-1p1-shared", "actor_rollout_ref.actor.ppo_mini_batch_size=30", gpu=replace(H100, memory=16.0)
    )
    assert small == (None, None)


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_where_no_sequence_fits_vllm_is_left_to_say_so(share: float) -> None:
    assert cache_bytes(engine(8, 32768, share), SHAPE, replace(H100, memory=24.0)) is None
