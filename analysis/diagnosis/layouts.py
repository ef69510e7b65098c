"""Other layouts of as many GPUs as a run has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from analysis.diagnosis.model import Idea, Model
from guidelines_core.config import layout
from guidelines_core.config.compose import changed
from guidelines_core.hardware.footprint import memory
from guidelines_core.paths import CONF

SOLVER = "reward.reward_model.rollout"
OWN = {2: "1p1", 4: "hybrid-3p1"}
"""By number of GPUs, the layout in which one of them is the solver's own."""


def layouts(config: DictConfig, model: Model) -> Iterator[Idea]:
    """Yield the other layouts of as many GPUs: the solver elsewhere, and rollout and training side by side."""
    needed, own = layout.gpus_needed(config), layout.solver_gpus(config)
    if (
        layout.solver_elsewhere(config)
        or needed not in OWN
        or own > 1
        or config.reward.reward_model.rollout.tensor_model_parallel_size > 1
    ):
        return
    name = f"hybrid-{needed}-shared" if own else OWN[needed]
    pool = _layout("hybrid-4-shared" if own else "_gpu").reward.reward_model
    values = {
        "trainer.n_gpus_per_node": needed if own else needed - 1,
        "reward.reward_model.enable_resource_pool": pool.enable_resource_pool,
        f"{SOLVER}.gpu_memory_utilization": pool.rollout.gpu_memory_utilization,
        f"{SOLVER}.free_cache_engine": bool(own),
    }
    other = changed(config, values)
    rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    fits = max(memory(other, model.planner, model.gpu).values()) <= model.gpu.memory
    if fits and rollouts % layout.training_gpus(other) == 0:
        yield Idea(
            values,
            "the solver's GPU waits while the others train; shared by all roles, no GPU waits for another"
            if own
            else "the solver begins when the last guideline is written, and each step wakes it",
            "the solver begins when the last guideline is written"
            if own
            else "that much only if all other solutions are written by then",
            overrides=(f"layout={name}",),
        )
    if own:
        yield _side_by_side(config, needed)


def _side_by_side(config: DictConfig, needed: int) -> Idea:
    """Return the layout that trains on some of the GPUs on what was rolled out on the others before."""
    name = "split-1p2p1" if needed == 4 else "split-1p1-shared"
    split, mini = _layout("split-1p2p1"), "actor_rollout_ref.actor.ppo_mini_batch_size"
    return Idea(
        {
            "trainer.n_gpus_per_node": _layout(name).trainer.n_gpus_per_node,
            "trainer.v1.trainer_mode": split.trainer.v1.trainer_mode,
            "trainer.v1.separate_async.parameter_sync_step": split.trainer.v1.separate_async.parameter_sync_step,
            "actor_rollout_ref.rollout.nnodes": split.actor_rollout_ref.rollout.nnodes,
            "actor_rollout_ref.rollout.n_gpus_per_node": split.actor_rollout_ref.rollout.n_gpus_per_node,
            "guidelines.rollout_beside_solver": needed == 2,
            mini: config.data.train_batch_size,
        },
        "the GPUs that train wait while guidelines and solutions are written",
        "learns from rollouts that are one step old",
        overrides=(f"layout={name}", f"{mini}={config.data.train_batch_size}"),
    )


def _layout(name: str) -> Any:
    """Return the layout's own file."""
    return OmegaConf.load(CONF / "layout" / f"{name}.yaml")
