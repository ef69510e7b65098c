"""Two Ray nodes, started before the run as on two machines: trained; a node killed, and the run resumed.

What is trained has the layout of two GPUs that share with solvers, and rollouts without a verdict.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import LOSING_PROMPTS, LOSSES, Started
from tests.support.tiny_run import ROLLOUTS, STEPS, Attempt, Run, done, start, store

pytestmark = pytest.mark.e2e

SLOTS = 3
OTHER = "other"
"""The folder of the node that is not the head."""

LAYOUT = ("layout=cpu-2p1-x2",)
FORKING = "tests.support.forking_driver"
AUTHENTICATED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What Ray's nodes and the run prove by that they belong together."""


class Nodes:
    """A Ray cluster of two nodes on this machine's loopback, with `SLOTS` logical GPUs each."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder = folder
        port = self.address.rpartition(":")[2]
        self.head = self._node("head", "--head", f"--port={port}", "--include-dashboard=false")
        self.other = self.another()

    def another(self) -> subprocess.Popen[bytes]:
        """Start the node that is not the head."""
        self.other = self._node(OTHER, f"--address={self.address}")
        return self.other

    def _node(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
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
class Trained(Run):
    """A run of two steps with one training process on each node, a solver beside it, and all processes forks."""

    attempt: Attempt
    training_processes: int


@dataclass(frozen=True)
class Broken(Run):
    """A run whose second node is killed after its first checkpoint, and that is resumed with another node."""

    broken: Attempt
    status_when_broken: str
    resumed: Attempt
    training_processes: int


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    # Ray's sockets need a short path.
    folder = Path(f"/tmp/two-nodes-{os.getpid()}")
    folder.mkdir()
    found = Nodes(folder)
    os.environ |= AUTHENTICATED
    try:
        yield found
    finally:
        for name in AUTHENTICATED:
            del os.environ[name]
        found.end()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def trained(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("two")
    counts: list[int] = []

    def count_once() -> bool:
        if not counts and done(folder / "run", 1):
            counts.append(training(nodes.folder / OTHER))
        return False

    words = (
        "trainer.n_gpus_per_node=1",
        "reward.reward_model.enable_resource_pool=False",
        "trainer.total_training_steps=2",
        "trainer.test_freq=2",
        f"guidelines.data.size={2 * LOSING_PROMPTS}",
    )
    attempt = start(folder, *LAYOUT, joined(nodes), *LOSSES, *words, driver=FORKING, stop_when=count_once)
    return Trained(folder / "run", store(folder), attempt, sum(counts))


@pytest.fixture(scope="module")
def broken(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    folder = tmp_path_factory.mktemp("broken")
    counts: list[int] = []

    def kill_one() -> bool:
        if done(folder / "run", 2):
            counts.append(training(nodes.folder / OTHER))
            nodes.kill(nodes.other)
            return True
        return False

    first = start(folder, *LAYOUT, joined(nodes), stop_when=kill_one, stop_by=signal.SIGCONT)
    found = Run(folder / "run", store(folder))
    status = found.stored.info.status
    nodes.another()
    again = start(folder, *LAYOUT, joined(nodes), "--resume")
    return Broken(found.directory, found.uri, first, status, again, sum(counts))


def joined(nodes: Nodes) -> str:
    """Return the override by which a run joins the cluster."""
    return f"ray_kwargs.ray_init.address={nodes.address}"


def training(folder: Path) -> int:
    """Return how many of verl's training processes have their logs in a node's folder."""
    return sum(
        any(Path(file.path).is_relative_to(folder) for file in process.info["open_files"] or [])
        for process in psutil.process_iter(["cmdline", "open_files"])
        if "WorkerDict" in " ".join(process.info["cmdline"] or [])
    )


def assert_same_first_step(ours: Run, theirs: Run) -> None:
    """Check that the first step's metrics are those of one node."""
    mine, others = ours.steps()[1], theirs.steps()[1]
    for name in ("reward/mean", "solution/tokens", "guideline/tokens", "critic/advantages/max"):
        assert mine[name] == others[name]
    for name in ("actor/loss", "actor/grad_norm", "actor/kl_loss"):
        assert mine[name] == pytest.approx(others[name], rel=1e-3, abs=1e-6)


def test_two_nodes_train_and_drop_what_has_no_verdict(trained: Trained) -> None:
    assert trained.attempt.exit_code == 0, trained.attempt.output
    assert trained.stored.info.status == "FINISHED"
    assert trained.training_processes == 1
    done = trained.steps()
    assert list(done) == [1, 2]
    assert done[1]["actor/grad_norm"] > 1e-3
    assert max(metrics["training/rollout_probs_diff_max"] for metrics in done.values()) < 1e-4
    assert len(list((trained.directory / "global_step_2").glob("actor/optim_world_size_2_rank_*.pt"))) == 2
    assert [metrics["reward/lost_rollouts"] for metrics in done.values()] == [1 / ROLLOUTS, pytest.approx(3 / 24)]
    assert trained.metric("validation/problems")[2] == 3
    assert len(trained.step_rows(1)) == LOSING_PROMPTS * (ROLLOUTS - 1)
    assert sorted(trained.step_rows(2).groupby("group").size()) == [1, *[ROLLOUTS] * (LOSING_PROMPTS - 1)]


@pytest.mark.slow
def test_each_node_has_its_part_of_the_training_processes(broken: Broken) -> None:
    assert broken.training_processes == 2


@pytest.mark.slow
def test_a_node_that_is_killed_ends_the_run_as_failed(broken: Broken) -> None:
    assert broken.broken.exit_code == 1, broken.broken.output
    assert broken.status_when_broken == "FAILED"
    assert "--resume" in broken.broken.output


@pytest.mark.slow
def test_it_is_resumed_to_its_end(broken: Broken, unbroken: Started) -> None:
    assert broken.resumed.exit_code == 0, broken.resumed.output
    assert broken.stored.info.status == "FINISHED"
    assert len(broken.steps()) == STEPS
    assert_same_first_step(broken, unbroken)
