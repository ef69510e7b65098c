"""A layout is refused if and only if an engine would have no GPUs or others than it says, as verl takes them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import compose
from guidelines_core.preflight.placement import HYBRID, PARALLEL, POOL, ROLLOUT, SOLVER, placement_findings

Gpu = tuple[int, int]
"""A node's number and a GPU's number on it."""

LAYOUTS = ("hybrid-3p1-x2", "hybrid-4-shared", "split-1p1-shared", "split-1p2p1", "train-only-4")
"""One of each kind; the others differ in the number of GPUs or in the device."""

ELSEWHERE = "guidelines.solver.url=http://127.0.0.1:8000/v1"
COUNTS = ("trainer.nnodes", "trainer.n_gpus_per_node", f"{ROLLOUT}.nnodes", f"{ROLLOUT}.n_gpus_per_node",
          f"{POOL}.nnodes", f"{POOL}.n_gpus_per_node")  # fmt: skip
SIZES = tuple(f"{engine}.{name}" for engine in (ROLLOUT, SOLVER) for name in PARALLEL)
SWITCHES = (HYBRID, f"{POOL}.enable_resource_pool", "guidelines.rollout_beside_solver", "distillation.enabled",
            f"{ROLLOUT}.disaggregation.enabled", f"{SOLVER}.disaggregation.enabled")  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(COUNTS, (1, 2, 3, 4)),
    **dict.fromkeys(SIZES, (0, 1, 2, 3, 4)),
    **dict.fromkeys(SWITCHES, (False, True)),
    "trainer.v1.trainer_mode": ("sync", "colocate_async", "separate_async"),
}
"""The keys that say where something runs, and some values of each."""

FIXED = ("trainer.device", f"{ROLLOUT}.checkpoint_engine.backend", f"{ROLLOUT}.gpu_memory_utilization", f"{ROLLOUT}.n",
         f"{SOLVER}.gpu_memory_utilization", f"{POOL}.enable", "data.train_batch_size", "guidelines.solver.samples",
         "actor_rollout_ref.model.lora_rank", "algorithm.use_kl_in_reward",
         "actor_rollout_ref.actor.use_kl_loss")  # fmt: skip


@lru_cache
def composed(name: str) -> DictConfig:
    """Return what says in a configuration with this layout where something runs; of the rest it has nothing."""
    overrides = [f"layout={name}", *([ELSEWHERE] if "train-only" in name else [])]
    config = compose("numinamath30k-3b-300steps-mathverify-fast", overrides, environ={})
    small = OmegaConf.create()
    for key in (*VALUES, *FIXED):
        OmegaConf.update(small, key, OmegaConf.select(config, key))
    return small


def pool(section: DictConfig) -> list[Gpu]:
    """Return the GPUs of a pool in verl's order."""
    return [(node, gpu) for node in range(section.nnodes) for gpu in range(section.n_gpus_per_node)]


def engines(gpus: list[Gpu], engine: DictConfig, gpus_of_a_node: int) -> list[list[Gpu]]:
    """Return each engine's GPUs, as `RolloutReplica` and `split_resource_pool` in verl choose them."""
    whole = engine.tensor_model_parallel_size * engine.data_parallel_size * engine.pipeline_model_parallel_size
    on_a_node = min(gpus_of_a_node, whole)
    assert whole % on_a_node == 0
    assert len(gpus) % whole == 0
    assert not engine.disaggregation.enabled
    found = [gpus[first : first + whole] for first in range(0, len(gpus), whole)]
    for each in found:
        nodes = [node for node, _ in each]
        # verl starts a server on every node of an engine, each for as many of its GPUs.
        assert all(nodes.count(node) == on_a_node for node in nodes)
    return found


def built(config: DictConfig) -> tuple[int, int, int]:
    """Return the planner's engines, the solver's, and all GPUs, as verl 0.9.1 and `beside_solver.py` make them."""
    trainer, rollout, solver = config.trainer, config.actor_rollout_ref.rollout, config.reward.reward_model
    separate = trainer.v1.trainer_mode == "separate_async"
    training, solving = pool(trainer), pool(solver) if solver.enable_resource_pool else []
    used = len(training) + len(solving)
    planners: list[list[Gpu]] = []
    if not separate or config.actor_rollout_ref.hybrid_engine:
        planners += engines(training, rollout, rollout.n_gpus_per_node)
    if separate:
        assert rollout.checkpoint_engine.backend != "naive"
        assert solver.enable_resource_pool or not solver.enable
        own = engines(pool(rollout), rollout, rollout.n_gpus_per_node)
        if config.guidelines.rollout_beside_solver:
            parts = engines(solving, rollout, rollout.n_gpus_per_node)
            # Each engine is on the part of its number, counted from the engines on the training GPUs.
            own = [parts[len(planners) + number] for number in range(len(own))]
            assert len(own) == len(parts)
        else:
            used += sum(map(len, own))
        planners += own
    solvers = []
    if solver.enable:
        holder = solver if solver.enable_resource_pool else trainer
        solvers = engines(solving or training, solver.rollout, holder.n_gpus_per_node)
    assert not config.distillation.enabled
    return len(planners), len(solvers), used


def placed_as_its_layout_says(config: DictConfig) -> bool:
    """Return whether what verl builds is what the layout says."""
    expected = layout.rollout_engines(config), layout.solver_engines(config), layout.gpus_needed(config)
    try:
        return built(config) == expected
    except (AssertionError, IndexError, ZeroDivisionError):
        return False


def refused_all_the_same(config: DictConfig) -> set[str]:
    """Return the keys that are refused though verl places the engines as the layout says."""
    rollout, solver = config.actor_rollout_ref.rollout, config.reward.reward_model
    if not layout.separate(config):
        # Neither has an effect in these modes.
        return {HYBRID, "guidelines.rollout_beside_solver"}
    # `built` does not count memory.
    keys = {f"{ROLLOUT}.gpu_memory_utilization"}
    if rollout.nnodes * rollout.n_gpus_per_node == solver.nnodes * solver.n_gpus_per_node:
        # Beside the solver: the solver's GPUs are on other nodes than these keys say.
        keys |= {f"{ROLLOUT}.nnodes", f"{ROLLOUT}.n_gpus_per_node"}
    return keys


def check(config: DictConfig) -> None:
    """Check that a configuration is placed as its layout says, or refused for a reason."""
    refused = {finding.key for finding in placement_findings(config)}
    if not refused & refused_all_the_same(config):
        assert placed_as_its_layout_says(config) == (not refused), refused


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_placed_as_it_says_and_refused_where_one_key_would_break_it(name: str) -> None:
    assert list(placement_findings(composed(name))) == []
    check(composed(name))
    for key, values in VALUES.items():
        for value in values:
            config = composed(name).copy()
            OmegaConf.update(config, key, value)
            check(config)


def test_the_planners_engines_beside_the_solver_are_on_its_nodes() -> None:
    config = composed("split-1p1-shared").copy()
    OmegaConf.update(config, f"{ROLLOUT}.n_gpus_per_node", 2)
    OmegaConf.update(config, f"{POOL}.nnodes", 2)
    assert {finding.key for finding in placement_findings(config)} <= refused_all_the_same(config)
    assert placed_as_its_layout_says(config)


@given(st.sampled_from(LAYOUTS), st.fixed_dictionaries(
    {key: st.sampled_from([1, 1, 2, 4]) for key in COUNTS} | {key: st.sampled_from([1, 1, 1, 2]) for key in SIZES}
))  # fmt: skip
def test_pools_and_engines_of_any_size_are_placed_or_refused(name: str, values: dict[str, int]) -> None:
    config = composed(name).copy()
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    check(config)
