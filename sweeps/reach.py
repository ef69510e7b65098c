"""What a trial changes where it is read: in the driver, and by Ray's `__ray_call__` in each process of the trainer.

The first argument of what runs in another process is the actor's object there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict


def change(config: DictConfig, values: Mapping[str, Any]) -> None:
    """Set `values` in `config`, in place: whoever holds a part of it sees them."""
    with open_dict(config):
        for key, value in values.items():
            OmegaConf.update(config, key, value)


def batch_limits(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Return what verl's workers take from the configuration for each batch (`engine_workers.py:545,600`)."""
    actor, ref, rollout = (config.actor_rollout_ref[name] for name in ("actor", "ref", "rollout"))
    return {
        "actor": {
            "use_dynamic_bsz": actor.use_dynamic_bsz,
            "max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu,
            "micro_batch_size_per_gpu": actor.ppo_micro_batch_size_per_gpu,
            "infer_max_token_len_per_gpu": rollout.log_prob_max_token_len_per_gpu,
            "infer_micro_batch_size_per_gpu": rollout.log_prob_micro_batch_size_per_gpu,
        },
        "ref": {
            "use_dynamic_bsz": ref.log_prob_use_dynamic_bsz,
            "infer_max_token_len_per_gpu": ref.log_prob_max_token_len_per_gpu,
            "infer_micro_batch_size_per_gpu": ref.log_prob_micro_batch_size_per_gpu,
        },
    }


def change_agent_loop(worker: Any, values: Mapping[str, Any]) -> None:
    """Change an agent-loop worker's copies; a worker that is not updated keeps the old n, and the batch is padded."""
    from verl.utils.config import omega_conf_to_dataclass

    for config in (worker.config, worker.llm_client.config):
        change(config, values)
    worker.rollout_config = omega_conf_to_dataclass(worker.config.actor_rollout_ref.rollout)


def change_server(server: Any, prompt_length: int, response_length: int) -> None:
    """Change the lengths by which a server limits each answer; a server that is not updated cuts at the old ones."""
    # The configuration is a frozen dataclass.
    server.config.__dict__.update(prompt_length=prompt_length, response_length=response_length)


def remember(worker: Any) -> None:
    """Keep this worker's share of the weights in main memory, and its learning rate."""
    for inner in _actors(worker):
        engine = inner.actor.engine
        inner.beginning = (
            [_local(parameter).detach().cpu().clone() for parameter in engine.module.parameters()],
            [group["lr"] for group in engine.optimizer.param_groups],
            engine.lr_scheduler.state_dict(),
        )


def begin_again(worker: Any, limits: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the weights back, forget the optimizer's moments, and set the limits of a batch."""
    import torch
    from verl.utils.device import get_torch_device

    for inner in _actors(worker):
        engine = inner.actor.engine
        weights, rates, schedule = inner.beginning
        with torch.no_grad():
            for parameter, weight in zip(engine.module.parameters(), weights, strict=True):
                _local(parameter).copy_(weight)
        engine.optimizer.zero_grad(set_to_none=True)
        engine.optimizer.state.clear()
        for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        engine.lr_scheduler.load_state_dict(schedule)
        for role, values in limits.items():
            if getattr(inner, role, None) is not None:
                getattr(inner, role).engine_config.__dict__.update(values)
        device = get_torch_device()
        if device.is_available() and hasattr(device, "reset_peak_memory_stats"):
            device.reset_peak_memory_stats()


def _actors(worker: Any) -> list[Any]:
    """Return the objects in a worker's process that hold an actor."""
    return [inner for inner in worker.worker_dict.values() if getattr(inner, "actor", None) is not None]


def _local(parameter: Any) -> Any:
    """Return this process's share of a parameter, whichever way it is sharded."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter.data
