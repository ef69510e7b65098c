"""The solver's server, started beside the actor's workers and not after them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base

from guidelines_core.solver_servers import SolverLoop


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
        """Set up verl's pools and start the solver in its own."""
        super()._init_resource_pool_mgr()  # type: ignore[misc]
        self._starting = ThreadPoolExecutor(max_workers=1)
        self._solver: Future[SolverLoop] | None = None
        if self.config.reward.reward_model.enable_resource_pool:  # type: ignore[attr-defined]
            self.resource_pool_manager.create_resource_pool()  # type: ignore[attr-defined]
            pool = self.resource_pool_manager.get_resource_pool(Role.RewardModel)  # type: ignore[attr-defined]
            self._solver = self._starting.submit(SolverLoop, config=self.config, rm_resource_pool=pool)  # type: ignore[attr-defined]

    def _solver_on_its_way(self, config: Any, rm_resource_pool: Any) -> Any:
        """Return the reward loop at once; who first uses it waits until its server is up.

        Where the solver shares the training GPUs its server starts beside the rollout's. vLLM measures free memory to
        size its cache, which two that start at once falsify: they must be told the size.
        """
        if self._solver is None:
            if not started_together(config):
                return SolverLoop(config, rm_resource_pool)
            self._solver = self._starting.submit(SolverLoop, config, rm_resource_pool)
        return _Later(self._solver)


def started_together(config: Any) -> bool:
    """Say whether the rollout's and the solver's servers may start at once on one GPU: both know their cache's size."""
    engines = (config.actor_rollout_ref.rollout, config.reward.reward_model.rollout)
    return all((engine.engine_kwargs.get("vllm") or {}).get("kv_cache_memory_bytes") for engine in engines)


class _Later:
    """The result of a future, which is waited for when something is first asked of it."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future.result(), name)
