"""Starts verl's servers while its data and models load, and logs the stages of the start."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base, trainer_separate_async
from verl.workers.rollout.llm_server import LLMServerManager

from guidelines_core.config import layout
from guidelines_core.runs.journal import LOGGED_AT
from guidelines_core.runs.start import Start
from guidelines_core.verl_adapter.beside_solver import manager_on
from guidelines_core.verl_adapter.reward_loop import SolverLoop


class EarlyServers:
    """Mixed into verl's trainer: starts its servers early and times each stage of the start.

    verl starts the solver's server after the actor is loaded and the planner's after that (`PPOTrainer._setup`), and
    has no option to change this. During the setup, the two names that it calls there return the servers that are
    already starting.
    """

    _solver: Future[SolverLoop] | None = None
    _rollout: Future[Any] | None = None
    _pools_ready = False
    _start_logged = False

    def _setup(self) -> None:
        """Set up the trainer, with the servers started as early as possible."""
        self._stages = Start.handed_over()
        originals = trainer_base.RewardLoopManager, trainer_base.LLMServerManager
        standalone = trainer_separate_async.LLMServerManager
        trainer_base.RewardLoopManager = self._early_solver
        trainer_base.LLMServerManager = _EarlyRolloutManager(self)
        trainer_separate_async.LLMServerManager = _StandaloneManager(self)
        try:
            super()._setup()  # type: ignore[misc]
        finally:
            trainer_base.RewardLoopManager, trainer_base.LLMServerManager = originals
            trainer_separate_async.LLMServerManager = standalone
        self._stages.ends("rollout")

    def _init_dataloader(self) -> None:
        """Read the problems, while the solver's server starts."""
        self._init_resource_pool_mgr()
        super()._init_dataloader()  # type: ignore[misc]
        self._stages.ends("data")

    def _init_resource_pool_mgr(self) -> None:
        """Set up verl's pools and start the solver in its pool, or on the training GPUs if that is possible."""
        if self._pools_ready:
            return
        self._pools_ready = True
        super()._init_resource_pool_mgr()  # type: ignore[misc]
        config, pools = self.config, self.resource_pool_manager  # type: ignore[attr-defined]
        pools.create_resource_pool()
        # verl creates the pools again (`trainer_base.py`); then the solver's would differ from the trainer's.
        pools.create_resource_pool = lambda: None
        # Reserved here, since the actor's workers and the solver's may need a pool at the same time; the largest parts
        # first, for the small ones could take a GPU of each node from a part that must be on one.
        for pool in sorted(pools.resource_pool_dict.values(), key=lambda pool: -max(pool.store)):
            pool.get_placement_groups(device_name=config.trainer.device)
        if not layout.solver_elsewhere(config) and (
            config.reward.reward_model.enable_resource_pool or started_together(config)
        ):
            pool = pools.get_resource_pool(Role.RewardModel)
            self._solver = ThreadPoolExecutor(max_workers=1).submit(SolverLoop, config, pool)

    @property
    def actor_rollout_wg(self) -> Any:
        """The actor's workers, under verl's name."""
        return self._actor_workers

    @actor_rollout_wg.setter
    def actor_rollout_wg(self, workers: Any) -> None:
        """Set the actor's workers, and start the planner's servers on their GPUs before they load their models."""
        self._actor_workers = workers
        if getattr(self, "_enable_hybrid_replicas", True) and started_together(self.config):  # type: ignore[attr-defined]
            self._rollout = rollout_started(self.config, workers)  # type: ignore[attr-defined]

    def _early_solver(self, config: Any, rm_resource_pool: Any) -> Any:
        """Return the reward loop without waiting; its first use waits for its server."""
        self._stages.ends("models")
        return SolverLoop(config, rm_resource_pool) if self._solver is None else _AwaitedResult(self._solver)

    def on_init_end(self) -> None:
        """Give the first weights to the rollout servers."""
        super().on_init_end()  # type: ignore[misc]
        self._stages.ends("weights")

    def fit(self, agent_loop_manager: Any) -> None:
        """Train to the last step."""
        self._stages.ends("solver")
        super().fit(agent_loop_manager)  # type: ignore[misc]

    def on_validate_begin(self) -> None:
        """Log the stages, if this validation comes first after the start."""
        self._log_start(self.global_steps)  # type: ignore[attr-defined]
        super().on_validate_begin()  # type: ignore[misc]

    def on_train_begin(self) -> None:
        """Log the stages before the first step, whose number verl has already set."""
        self._log_start(self.global_steps - 1)  # type: ignore[attr-defined]
        super().on_train_begin()  # type: ignore[misc]

    def _log_start(self, step: int) -> None:
        if self._start_logged:
            return
        self._start_logged = True
        self.logger.log(data={**self._stages.metrics(), LOGGED_AT: time.time()}, step=step)  # type: ignore[attr-defined]


def started_together(config: Any) -> bool:
    """Return whether servers may start on GPUs where the actor's workers and another server are starting.

    Without a given cache size vLLM measures free memory, which is wrong during other starts: all sizes must be set.
    """
    engines = [config.actor_rollout_ref.rollout]
    if not layout.solver_elsewhere(config):
        engines.append(config.reward.reward_model.rollout)
    return all((engine.engine_kwargs.get("vllm") or {}).get("kv_cache_memory_bytes") for engine in engines)


def rollout_started(config: Any, workers: Any) -> Future[Any]:
    """Start the planner's servers on the GPUs of `workers` and return the future of their manager.

    verl asks each worker for its place before it starts a server there, and a worker does not answer while it loads its
    model. This returns after all have answered.
    """
    manager = LLMServerManager(config=config, worker_group=workers)

    async def start() -> Any:
        await manager._initialize_llm_servers()
        await manager._init_global_load_balancer()
        return manager

    coming = ThreadPoolExecutor(max_workers=1).submit(lambda: asyncio.run(start()))
    while not coming.done() and not _placed(manager):
        time.sleep(0.05)
    return coming


def _placed(manager: Any) -> bool:
    """Return whether every server has been started on its workers' GPUs."""
    replicas = getattr(manager, "rollout_replicas", [])
    return bool(replicas) and all(len(replica.servers) == replica.nnodes for replica in replicas)


class _EarlyRolloutManager:
    """Replaces verl's class `LLMServerManager` during the trainer's setup."""

    def __init__(self, trainer: EarlyServers) -> None:
        self._trainer = trainer

    def create(self, *args: Any, **kwargs: Any) -> Any:
        """Return the manager that was started early, or start one now."""
        coming = self._trainer._rollout
        return LLMServerManager.create(*args, **kwargs) if coming is None else coming.result()

    def create_empty(self, *args: Any, **kwargs: Any) -> Any:
        """Call verl's `create_empty`."""
        return LLMServerManager.create_empty(*args, **kwargs)


class _StandaloneManager:
    """Replaces verl's class `LLMServerManager` where a trainer starts rollout servers that are not on its own GPUs."""

    def __init__(self, trainer: EarlyServers) -> None:
        self._trainer = trainer

    def create(self, *args: Any, **kwargs: Any) -> Any:
        """Start the servers on the solver's GPUs or on GPUs of their own, as the layout says."""
        trainer: Any = self._trainer
        if not layout.beside_solver(trainer.config):
            return LLMServerManager.create(*args, **kwargs)
        pool = trainer.resource_pool_manager.get_resource_pool(Role.RewardModel)
        return manager_on(pool).create(*args, **kwargs)


class _AwaitedResult:
    """A proxy of a future's result: reading an attribute waits for the result."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future.result(), name)
