"""The solver's servers and the reward workers that send them requests, as subclasses of verl's.

verl's router before the servers turns every refusal into a 500, so a client cannot decide what to retry, and it keeps
the first addresses (`reward_loop/router/naive_router.py`). Here the workers send requests to the servers directly, and
a dead server can be replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil
import ray
from omegaconf import DictConfig
from verl.experimental.reward_loop import RewardLoopManager
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.experimental.reward_loop.reward_model import RewardModelManager
from verl.protocol import DataProto
from verl.single_controller.ray.base import split_resource_pool
from verl.trainer.ppo.reward import load_reward_manager, resolve_reward_manager_cls
from verl.utils import hf_tokenizer
from verl.utils.fs import copy_to_local

from guidelines_core.config.layout import solver_elsewhere
from guidelines_core.reward.score import RAISED, RewardUnavailable
from guidelines_core.verl_adapter.colocated import UNGRADED
from guidelines_core.verl_adapter.reconfigure import set_values

logger = logging.getLogger(__name__)


class SolverServers(RewardModelManager):
    """verl's servers of the frozen model, without its router; a dead or hanging server can be restarted.

    Attributes:
        server_addresses: `host:port` of each.
    """

    def _initialize_llm_servers(self) -> None:
        super()._initialize_llm_servers()
        self._starts = 0
        self._processes = [_processes(replica) for replica in self.rollout_replicas]
        for rank in range(len(self.rollout_replicas)):
            self._log_addresses(rank)

    def _initialize_router(self) -> None:
        self.router_address = ",".join(self.server_addresses)

    def restart(self, rank: int) -> None:
        """End server `rank` with its processes and start a new one on the same GPUs from the same weights."""
        old = self.rollout_replicas[rank]
        _end(self._processes[rank])
        for actor in (*old.servers, *old.workers):
            ray.kill(actor)
        self._starts += 1
        # verl names its actors, and Ray may still list those of the old server.
        new = type(old)(
            replica_rank=rank,
            config=self.config.rollout,
            model_config=old.model_config,
            gpus_per_node=self.config.n_gpus_per_node,
            is_reward_model=True,
            name_suffix=f"start_{self._starts}",
        )
        pools = split_resource_pool(self.resource_pool, split_size=old.world_size)
        self._run_all([new.init_colocated(pools[rank])])
        self.rollout_replicas[rank] = new
        self.server_handles[rank] = new.server_handle
        self.server_addresses[rank] = new.server_address
        self._processes[rank] = _processes(new)
        self._log_addresses(rank)

    def _log_addresses(self, rank: int) -> None:
        pids = " ".join(str(process.pid) for process in self._processes[rank])
        logger.warning("solver server %d: %s, processes %s", rank, self.server_addresses[rank], pids)


class SolverLoop(RewardLoopManager):
    """verl's reward loop with restartable servers, and workers that count rollouts without verdict.

    `reward_model_manager` is None where the solver runs elsewhere.
    """

    def __init__(self, config: DictConfig, rm_resource_pool: Any = None) -> None:
        self.config = config
        self.reward_model_manager = self.reward_router_address = None
        if not solver_elsewhere(config):
            self.reward_model_manager = SolverServers(config.reward.reward_model, rm_resource_pool)
            self.reward_router_address = self.reward_model_manager.get_router_address()
        self.reward_loop_workers_class = ray.remote(RewardWorker)
        self.reward_manager_cls = resolve_reward_manager_cls(config)
        self._init_reward_loop_workers()

    def relocate(self, addresses: list[str]) -> None:
        """Send the servers' addresses to every reward worker."""
        ray.get([worker.relocate.remote(addresses) for worker in self.reward_loop_workers])

    def first_failure(self) -> str | None:
        """Return why a worker's first rollout without verdict since the counts were taken got none; None if all did."""
        found: list[str | None] = ray.get([worker.first_failure.remote() for worker in self.reward_loop_workers])
        return next(filter(None, found), None)

    def take_counts(self) -> Counter[str]:
        """Return what the reward workers counted since the last call."""
        taken: Counter[str] = Counter()
        for counts in ray.get([worker.take_counts.remote() for worker in self.reward_loop_workers]):
            taken.update(counts)
        return taken


class RewardWorker(RewardLoopWorker):
    """verl's reward worker; its tokenizer does not run a model's own code."""

    def _init_reward_fn(self) -> None:
        model = self.config.actor_rollout_ref.model
        self.input_tokenizer = hf_tokenizer(copy_to_local(model.tokenizer_path or model.path))
        self.reward_model_tokenizer = None
        self.reward_manager = load_reward_manager(
            self.config, self.input_tokenizer, reward_router_address=self.reward_router_address
        )

    async def compute_score(self, data: DataProto) -> dict[str, Any]:
        """Return the rollout's reward; errors of grading are counted and raised in a form that Ray can pickle.

        verl's worker calls the reward manager only if `custom_reward_function` is set, and otherwise treats the reward
        model as a classifier.
        """
        try:
            result: dict[str, Any] = await self.reward_manager.run_single(data)
        except RewardUnavailable:
            raise
        except Exception as error:
            raise self.reward_manager.scorer.lost(RAISED, f"the reward function raised {error!r}") from None
        return result

    async def compute_score_batch(self, data: DataProto) -> list[dict[str, Any]]:
        """Return each rollout's reward; `UNGRADED` for one without verdict, whose error would end the run."""

        async def reward(rollout: DataProto) -> dict[str, Any]:
            try:
                return await self.compute_score(rollout)
            except RewardUnavailable:
                return UNGRADED

        return list(await asyncio.gather(*(reward(data[i : i + 1]) for i in range(len(data)))))

    def relocate(self, addresses: list[str]) -> None:
        """Send requests to these addresses from now on."""
        self.reward_manager.scorer.relocate(addresses)

    def first_failure(self) -> str | None:
        """Return why the first rollout without verdict got none, see `Scorer`."""
        failure: str | None = self.reward_manager.scorer.first_failure
        return failure

    def take_counts(self) -> Counter[str]:
        """Return what was counted since the last call: see `Scorer.take_counts`."""
        counts: Counter[str] = self.reward_manager.scorer.take_counts()
        return counts

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set `values` in this worker's copy of the configuration and in its solver client."""
        set_values(self.config, values)
        self.reward_manager.set_solver(self.config)


def _processes(replica: Any) -> list[psutil.Process]:
    """Return the processes of a server that run on this machine: its actors' and their children."""
    actors = [*replica.servers, *replica.workers]
    pids = ray.get([actor.__ray_call__.remote(lambda _: (_node(), os.getpid())) for actor in actors])
    parents = [psutil.Process(pid) for node, pid in pids if node == _node()]
    return [process for parent in parents for process in (parent, *parent.children(recursive=True))]


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _end(processes: list[psutil.Process]) -> None:
    """Kill processes, including stopped ones, which cannot handle a request from Ray."""
    for process in processes:
        # psutil compares start times, so a process with a reused id is not killed.
        if process.is_running():
            process.kill()
    psutil.wait_procs(processes, timeout=10)
