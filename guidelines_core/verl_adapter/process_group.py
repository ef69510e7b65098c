"""The training workers' process group, whose store listens only on the master's address."""

from __future__ import annotations

import os
import socket

import torch.distributed as dist


def initialize(backend: str) -> None:
    """Make torch's default process group, as `env://` would, from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    `env://` binds the store to every interface of the machine; `TCPStore` accepts a bound socket. verl uses an
    existing group (`utils/distributed.py`).
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    listening = socket.create_server((host, port)).detach() if rank == 0 else None
    store = dist.TCPStore(host, port, size, is_master=rank == 0, master_listen_fd=listening)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
