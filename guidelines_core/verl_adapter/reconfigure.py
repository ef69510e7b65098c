"""Changes a running trainer's configuration in every process that reads it, and resets its model.

Each of Ray's processes has its own copy of the configuration. The functions whose first argument is a worker or a
server run in that actor's process, through Ray's `__ray_call__`, and get the actor's object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict


def set_values(config: DictConfig, values: Mapping[str, Any]) -> None:
    """Set `values` in `config` in place, also for holders of its parts."""
    with open_dict(config):
        for key, value in values.items():
            OmegaConf.update(config, key, value)


def batch_limits(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Return the limits that verl's training workers read from their engine's configuration at each batch, by role."""
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


def set_agent_loop(worker: Any, values: Mapping[str, Any]) -> None:
    """Set `values` in an agent loop worker's copies; with the old n the trainer would pad the batch."""
    from verl.utils.config import omega_conf_to_dataclass

    for config in (worker.config, worker.llm_client.config):
        set_values(config, values)
    worker.rollout_config = omega_conf_to_dataclass(worker.config.actor_rollout_ref.rollout)


def set_lengths(server: Any, prompt_length: int, response_length: int) -> None:
    """Set the lengths at which a rollout server truncates."""
    # The configuration is a frozen dataclass.
    server.config.__dict__.update(prompt_length=prompt_length, response_length=response_length)


def save_start(worker: Any) -> None:
    """Keep this worker's share of the weights in main memory, its learning rates and its schedule."""
    for inner in _with_actor(worker):
        engine = inner.actor.engine
        inner.start = (
            [_local(parameter).detach().cpu().clone() for parameter in engine.module.parameters()],
            [group["lr"] for group in engine.optimizer.param_groups],
            engine.lr_scheduler.state_dict(),
        )


def restore_start(worker: Any, limits: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore what `save_start` kept, clear the optimizer's state, and set the batch limits of each role."""
    import torch
    from verl.utils.device import get_torch_device

    for inner in _with_actor(worker):
        engine = inner.actor.engine
        weights, rates, schedule = inner.start
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


def _with_actor(worker: Any) -> list[Any]:
    """Return the objects in a worker's process that hold an actor."""
    return [inner for inner in worker.worker_dict.values() if getattr(inner, "actor", None) is not None]


def _local(parameter: Any) -> Any:
    """Return this process's shard of a parameter."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter.data
