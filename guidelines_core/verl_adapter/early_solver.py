"""The solver's server, started beside the actor's workers, on their GPU too, and not after them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base

from guidelines_core.verl_adapter.reward_loop import SolverLoop


class EarlySolver:
    """What is added to verl's trainer: when its solver is started."""

    def _setup(self) -> None:
        """Start the solver's server beside the actor's workers.

        verl starts it after they are loaded (`trainer_base.py:345`) and offers no other moment, so the name that it
        calls there stands, while it sets up, for the server that is on its way.
        """
        original = trainer_base.RewardLoopManager
        trainer_base.RewardLoopManager = self._solver_on_its_way
        try:
            super()._setup()  # type: ignore[misc]
        finally:
            trainer_base.RewardLoopManager = original

    def _init_resource_pool_mgr(self) -> None:
        """Set up verl's pools and start the solver, in its own or, if it may start there, on the training GPUs."""
        super()._init_resource_pool_mgr()  # type: ignore[misc]
        self._solver: Future[SolverLoop] | None = None
        config, pools = self.config, self.resource_pool_manager  # type: ignore[attr-defined]
        pools.create_resource_pool()
        # verl makes them again (`trainer_base.py:237`); the solver's would not be the trainer's then.
        pools.create_resource_pool = lambda: None
        if config.reward.reward_model.enable_resource_pool or started_together(config):
            pool = pools.get_resource_pool(Role.RewardModel)
            # Made here, for the actor's workers may look for it at the same time as the solver's.
            pool.get_placement_groups(device_name=config.trainer.device)
            self._solver = ThreadPoolExecutor(max_workers=1).submit(SolverLoop, config, pool)

    def _solver_on_its_way(self, config: Any, rm_resource_pool: Any) -> Any:
        """Return the reward loop at once; who first uses it waits until its server is up."""
        return SolverLoop(config, rm_resource_pool) if self._solver is None else _AwaitedResult(self._solver)


def started_together(config: Any) -> bool:
    """Say whether the solver's server may start on a GPU where the actor's workers and the rollout's server start.

    vLLM measures free memory to size its cache, which others that start at once falsify: both must know its size.
    """
    engines = (config.actor_rollout_ref.rollout, config.reward.reward_model.rollout)
    return all((engine.engine_kwargs.get("vllm") or {}).get("kv_cache_memory_bytes") for engine in engines)


class _AwaitedResult:
    """Stands for a future's result: reading an attribute waits for the result."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future.result(), name)
