"""Transfers weights from training processes to separate rollout servers on a CPU: gloo in place of NCCL.

`rollout.checkpoint_engine.backend: gloo` selects it, and `custom_backend_module` loads it.
"""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import torch
import torch.distributed as dist
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

from guidelines_core.verl_adapter.cpu import engine as engine

HOST = "127.0.0.1"
PATIENCE = datetime.timedelta(minutes=5)
Topology = dict[str, list[int]]


@CheckpointEngineRegistry.register("gloo")
class GlooCheckpointEngine(CheckpointEngine):
    """The first training process broadcasts every weight to the rollout servers; the others only help to gather it.

    The group's store passes each weight's name, shape and type, under the weight's number.
    """

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        del bucket_size
        self._is_master = is_master
        self._store: dist.TCPStore | None = None
        self._group: dist.ProcessGroupGloo | None = None

    def prepare(self) -> int:  # type: ignore[override]
        """Open the store, on the first training process, and return its port; 0 on every other."""
        if not self._is_master:
            return 0
        listening = socket.create_server((HOST, 0))
        port = int(listening.getsockname()[1])
        self._store = dist.TCPStore(
            HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        return port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[int]
    ) -> tuple[Topology, Topology]:
        """Return each process's arguments for `init_process_group`; rank -1 takes no part."""
        size, port = 1 + rollout_world_size, max(metadata)

        def topology(ranks: list[int]) -> Topology:
            return {"rank": ranks, "size": [size] * len(ranks), "port": [port] * len(ranks)}

        return topology([0] + [-1] * (actor_wg_world_size - 1)), topology(list(range(1, size)))

    def init_process_group(self, rank: int, size: int, port: int) -> None:
        """Join the group of this transfer."""
        if rank < 0:
            return
        if self._store is None:
            self._store = dist.TCPStore(HOST, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
        self._group = dist.ProcessGroupGloo(self._store, rank, size, PATIENCE)

    def finalize(self) -> None:
        """Leave the group."""
        self._group = self._store = None

    async def send_weights(
        self, weights: Iterable[tuple[str, torch.Tensor]], global_steps: int | None = None
    ) -> dict[str, Any]:
        """Broadcast the weights; processes outside the group still gather them, since gathering is collective."""
        number = 0
        for name, weight in weights:
            if self._store is not None and self._group is not None:
                self._store.set(str(number), json.dumps([name, list(weight.shape), str(weight.dtype)]))
                self._group.broadcast(weight.contiguous(), 0).wait()
                number += 1
        if self._store is not None:
            self._store.set(str(number), "null")
        return {}

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, torch.Tensor]]:
        """Yield the weights with their names."""
        assert self._store is not None
        assert self._group is not None
        number = 0
        while (what := json.loads(self._store.get(str(number)))) is not None:
            name, shape, dtype = what
            weight = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            self._group.broadcast(weight, 0).wait()
            yield name, weight
            number += 1
