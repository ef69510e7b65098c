"""The planner's rollout servers on the solver's GPUs, for a trainer with GPUs of its own (`separate_async`).

verl makes a pool of GPUs for each standalone rollout server (`RolloutReplica.init_standalone`). Here the servers join
the solver's pool: each GPU then has a server of either kind, which work at once.
"""

from __future__ import annotations

from typing import Any

from verl.single_controller.ray.base import split_resource_pool
from verl.workers.rollout.llm_server import LLMServerManager
from verl.workers.rollout.replica import RolloutMode, get_rollout_replica_class


def manager_on(pool: Any) -> type[LLMServerManager]:
    """Return verl's manager of rollout servers with its standalone servers on the GPUs of `pool`."""
    replica_class: Any = get_rollout_replica_class("vllm")

    class SharingReplica(replica_class):  # type: ignore[misc]
        """A standalone rollout server on GPUs of `pool`."""

        async def init_standalone(self) -> None:
            """Start the server on the share of the pool that has its number."""
            await self.init_colocated(split_resource_pool(pool, self.world_size)[self.replica_rank])

        async def launch_servers(self) -> None:
            """Start it as a standalone server: of one that is colocated verl updates no weights from other GPUs."""
            self.rollout_mode = RolloutMode.STANDALONE
            await super().launch_servers()

    return type("SharingManager", (LLMServerManager,), {"rollout_replica_class": SharingReplica})
