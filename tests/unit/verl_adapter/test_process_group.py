"""The store of the process group, between two real processes."""

import os
import subprocess
import sys

from verl.utils.net_utils import get_free_port

from guidelines_core.paths import ROOT

WORKER = """
import psutil, torch, torch.distributed as dist
from guidelines_core.verl_adapter import process_group
process_group.initialize("cpu:gloo")
total = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(total)
listening = {c.laddr.ip for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN}
print(total.item(), sorted(listening))
dist.barrier()
"""


def test_two_workers_add_up_and_listen_on_loopback_alone() -> None:
    port = str(get_free_port("127.0.0.1")[0])
    base = {**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    base["GLOO_SOCKET_IFNAME"] = "lo"
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], env={**base, "RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    assert [worker.communicate(timeout=60)[0] for worker in workers] == ["3.0 ['127.0.0.1']\n"] * 2
