"""Two Ray nodes, started before the run as on two machines: trained, a node killed, resumed."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Started
from tests.support.tiny_run import STEPS, Attempt, Run, done, start, store

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SLOTS = 3
AUTHENTICATED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What Ray's nodes and the run prove by that they belong together."""


class Nodes:
    """A Ray cluster of two nodes on this machine's loopback, with `SLOTS` logical GPUs each."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        port = self.address.rpartition(":")[2]
        self.head = self._node("head", "--head", f"--port={port}", "--include-dashboard=false")
        self.other = self.another()

    def another(self) -> subprocess.Popen[bytes]:
        """Start the node that is not the head."""
        self.other = self._node("other", f"--address={self.address}")
        return self.other

    def _node(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).with_name("ray")), "start", *words, "--block", "--node-ip-address=127.0.0.1",
            f"--num-gpus={SLOTS}", "--num-cpus=32", "--object-store-memory=150000000", f"--temp-dir={folder}",
            "--disable-usage-stats",
        ]  # fmt: skip
        environment = {
            **os.environ,
            **AUTHENTICATED,
            "RAY_worker_niceness": "0",
            "RAY_prestart_worker_first_driver": "0",
        }
        with (folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Kill a node with all its processes."""
        processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in processes:
            process.kill()
        node.wait()

    def end(self) -> None:
        """End both nodes."""
        for node in (self.other, self.head):
            if node.poll() is None:
                self.kill(node)


@dataclass(frozen=True)
class OnTwoNodes(Run):
    """A run whose second node is killed after its first checkpoint, and that is resumed with another node."""

    broken: Attempt
    status_when_broken: str
    resumed: Attempt
    training_processes: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnTwoNodes]:
    # Ray's sockets need a short path.
    folder, nodes_folder = tmp_path_factory.mktemp("two"), Path(f"/tmp/two-nodes-{os.getpid()}")
    nodes_folder.mkdir()
    nodes = Nodes(nodes_folder)
    os.environ |= AUTHENTICATED
    try:
        words = ("layout=cpu-2p1-x2", f"ray_kwargs.ray_init.address={nodes.address}")
        counts: list[int] = []

        def broken() -> bool:
            if done(folder / "run", 2):
                counts.append(training(nodes.other.pid))
                nodes.kill(nodes.other)
                return True
            return False

        first = start(folder, *words, stop_when=broken, stop_by=signal.SIGCONT)
        found = Run(folder / "run", store(folder))
        status = found.stored.info.status
        nodes.another()
        again = start(folder, *words, "--resume")
        yield OnTwoNodes(found.directory, found.uri, first, status, again, counts[0])
    finally:
        for name in AUTHENTICATED:
            del os.environ[name]
        nodes.end()


def training(pid: int) -> int:
    """Return how many of the descendants of `pid` are verl's training processes."""
    return sum("WorkerDict" in " ".join(child.cmdline()) for child in psutil.Process(pid).children(recursive=True))


def test_each_node_has_its_part_of_the_training_processes(run: OnTwoNodes) -> None:
    assert run.training_processes == 2


def test_a_node_that_is_killed_ends_the_run_as_failed(run: OnTwoNodes) -> None:
    assert run.broken.exit_code == 1, run.broken.output
    assert run.status_when_broken == "FAILED"
    assert "--resume" in run.broken.output


def test_it_is_resumed_to_its_end(run: OnTwoNodes) -> None:
    assert run.resumed.exit_code == 0, run.resumed.output
    assert run.stored.info.status == "FINISHED"
    assert len(run.steps()) == STEPS


def test_metrics_are_those_of_one_node(run: OnTwoNodes, unbroken: Started) -> None:
    ours, theirs = run.steps()[1], unbroken.steps()[1]
    for name in ("reward/mean", "solution/tokens", "guideline/tokens", "critic/advantages/max"):
        assert ours[name] == theirs[name]
    for name in ("actor/loss", "actor/grad_norm", "actor/kl_loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-6)
