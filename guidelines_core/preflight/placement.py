"""Checks that every role of a layout has its GPUs, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.preflight.findings import Finding, error

ROLLOUT, POOL = "actor_rollout_ref.rollout", "reward.reward_model"
SOLVER = f"{POOL}.rollout"
HYBRID = "actor_rollout_ref.hybrid_engine"
PARALLEL = ("tensor_model_parallel_size", "data_parallel_size", "pipeline_model_parallel_size")
"""The settings of an engine whose product is the number of its GPUs."""


def placement_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every key by which a role would have no GPUs, or others than the layout's."""
    trainer, rollout, pool = config.trainer, config.actor_rollout_ref.rollout, config.reward.reward_model
    if layout.separate(config):
        yield from _separate_findings(config)
        yield from _engine_findings(ROLLOUT, rollout, rollout.nnodes, rollout.n_gpus_per_node)
    else:
        yield from _hybrid_findings(config)
        yield from _engine_findings(ROLLOUT, rollout, trainer.nnodes, trainer.n_gpus_per_node)
    if not layout.solver_elsewhere(config):
        holder = trainer if layout.solver_in_turns(config) else pool
        yield from _engine_findings(SOLVER, pool.rollout, holder.nnodes, holder.n_gpus_per_node)
    if config.distillation.enabled:
        yield error("distillation.enabled", True, "no layout has GPUs for a teacher", "leave it False")


def _engine_findings(key: str, engine: DictConfig, nodes: int, gpus: int) -> Iterator[Finding]:
    """Yield a finding if engines with these settings do not fill `nodes` nodes with `gpus` GPUs each.

    verl takes an engine's GPUs in order and starts a server on each node that they are on (`rollout/replica.py`).
    """
    if engine.disaggregation.enabled:
        yield error(f"{key}.disaggregation.enabled", True, "no layout has engines that only read prompts",
                    "leave it False")  # fmt: skip
    sizes = {name: engine[name] for name in PARALLEL}
    wrong = {name: size for name, size in sizes.items() if size < 1}
    for name, size in wrong.items():
        yield error(f"{key}.{name}", size, "expected 1 or more", "give 1")
    if wrong or nodes < 1 or gpus < 1:
        return
    whole = layout.gpus_per_engine(engine)
    on_a_node = min(whole, gpus)
    if gpus % on_a_node or whole % on_a_node or (nodes * gpus) % whole:
        name, size = next((name, size) for name, size in sizes.items() if size > 1)
        yield error(
            f"{key}.{name}",
            size,
            f"an engine takes {' x '.join(map(str, sizes.values()))} GPUs (tensor, data and pipeline parallel), and "
            f"its pool has {nodes} x {gpus} (nodes x GPUs), which such engines do not fill",
            "give 1, or sizes whose product divides the GPUs of a node",
        )


def _hybrid_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for each key that puts the rollout elsewhere than on the training GPUs."""
    mode, rollout = config.trainer.v1.trainer_mode, config.actor_rollout_ref.rollout
    if config.guidelines.rollout_beside_solver:
        yield error("guidelines.rollout_beside_solver", True, f"{mode} rolls out on the training GPUs",
                    "leave it out, or take layout=split-1p1-shared")  # fmt: skip
    elif not config.actor_rollout_ref.hybrid_engine:
        yield error(HYBRID, False, f"{mode} rolls out on the training GPUs",
                    "leave it True, or take layout=split-1p2p1")  # fmt: skip
    # verl divides an engine into servers by this value (`rollout/replica.py`); it matters only below the engine's size.
    whole, gpus = layout.gpus_per_engine(rollout), config.trainer.n_gpus_per_node
    if min(rollout.n_gpus_per_node, whole) != min(gpus, whole):
        yield error(f"{ROLLOUT}.n_gpus_per_node", rollout.n_gpus_per_node,
                    f"{mode} rolls out on the {gpus} training GPUs of a node, an engine on {min(gpus, whole)} of them",
                    "leave it out, or take layout=split-1p2p1")  # fmt: skip


def _separate_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for each failing assertion of `verl/trainer/ppo/v1/trainer_separate_async.py`, and others."""
    rollout, pool = config.actor_rollout_ref.rollout, config.reward.reward_model
    if config.actor_rollout_ref.hybrid_engine:
        yield error(HYBRID, True, "rollouts have GPUs of their own or the solver's, and it would start engines on the "
                    "training GPUs as well", "give False, or take layout=1p1")  # fmt: skip
    for name in ("nnodes", "n_gpus_per_node"):
        if rollout[name] < 1:
            yield error(f"{ROLLOUT}.{name}", rollout[name], "separate_async needs GPUs for rollouts alone", "give 1")
    if rollout.checkpoint_engine.backend == "naive":
        yield error(f"{ROLLOUT}.checkpoint_engine.backend", "naive", "separate_async sends weights between GPUs",
                    "give nccl")  # fmt: skip
    if layout.solver_in_turns(config):
        yield error(f"{POOL}.enable_resource_pool", False, "separate_async never pauses for a solver on the same GPUs",
                    "give True")  # fmt: skip
    if not layout.beside_solver(config):
        return
    for name in ("nnodes", "n_gpus_per_node"):
        if rollout[name] != pool[name]:
            yield error(
                f"{ROLLOUT}.{name}",
                rollout[name],
                f"with guidelines.rollout_beside_solver the planner's engines are on the solver's {pool.nnodes} x "
                f"{pool.n_gpus_per_node} GPUs (nodes x GPUs)",
                f"give {POOL}.{name}={pool[name]}",
            )
    both = rollout.gpu_memory_utilization + pool.rollout.gpu_memory_utilization
    if config.trainer.device == "cuda" and both > 0.95:
        yield error(
            f"{ROLLOUT}.gpu_memory_utilization",
            rollout.gpu_memory_utilization,
            f"together with {SOLVER}.gpu_memory_utilization it is {both:.2f} of the GPU that both engines are on",
            "give 0.45 to each",
        )
