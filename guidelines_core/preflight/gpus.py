"""Checks the GPUs: their number, memory in use by other processes, and the memory of each role."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.footprint import memory
from guidelines_core.hardware.gpus import Device, known_gpu
from guidelines_core.hardware.shapes import Shape
from guidelines_core.preflight.findings import Finding, error, warning


def missing_gpus(config: DictConfig, found: Sequence[Device], *, named: bool = False) -> Finding | None:
    """Return a finding if `found` are too few GPUs; with `named` they are those of a machine that the user named."""
    if config.trainer.device != "cuda":
        return None
    address, needed = config.ray_kwargs.ray_init.address, layout.gpus_needed(config)
    if named:
        there, where = len(found), f"on {len(found)}x{found[0].name}"
    elif address == "local":
        there, where = len(found), "on this machine"
    else:
        there, where = _cluster_gpus(address), f"at {address}"
    if there >= needed:
        return None
    roles = ", ".join(f"{p.label} {p.role}" for p in layout.placements(config))
    return error("GPUs", there, f"{needed} are needed ({roles}), {there} are there {where}",
                 "run on a machine that has them" + ("" if named else " (a dry run may name it: --for 4xH100)")
                 + ", or take another layout: layout=1p1, colocated-1 or cpu")  # fmt: skip


def _cluster_gpus(address: str) -> int:
    """Return the number of GPUs of the Ray cluster at `address`, 0 if it does not answer within 15 s."""
    code = (
        "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); print(int(ray.cluster_resources().get('GPU', 0)))"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, timeout=15)
    except subprocess.TimeoutExpired:
        return 0
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0


def memory_findings(config: DictConfig, planner: Shape | None, found: Sequence[Device]) -> Iterator[Finding]:
    """Yield a finding for every role whose estimated memory is too large, and for memory in use by others."""
    if config.trainer.device != "cuda":
        return
    gpu = known_gpu(found)
    for device in found:
        held = device.total - device.free
        if device.processes or held > 1024:
            yield (error if held > device.total / 10 else warning)(
                f"GPU {device.index}",
                device.name,
                f"{held / 1024:.1f} of {device.total / 1024:.0f} GiB are in use"
                + (f" by {', '.join(device.processes)}" if device.processes else ""),
                "end those processes, or choose other GPUs with CUDA_VISIBLE_DEVICES",
            )
    if planner is None:
        return
    need = memory(config, planner, gpu)
    state = 16 * planner.parameters / layout.training_gpus(config) / 2**30
    keys = {
        "training": "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
        "rollout": "actor_rollout_ref.rollout.gpu_memory_utilization",
        "solver": "reward.reward_model.rollout.gpu_memory_utilization",
    }
    values = {
        "training": config.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu,
        "rollout": config.actor_rollout_ref.rollout.gpu_memory_utilization,
        "solver": config.reward.reward_model.rollout.gpu_memory_utilization,
    }
    for role, gib in need.items():
        if gib <= 0.95 * gpu.memory:
            continue
        certain = role != "training" or state > gpu.memory
        yield (error if certain else warning)(
            keys[role],
            values[role],
            f"{role} takes {gib:.0f} GiB of a {gpu.name}'s {gpu.memory:.0f}"
            + (" with every sequence at its limit" if role == "training" else ""),
            "lower it" if role != "training" else "lower it, or offload, or spread training over more GPUs",
        )
