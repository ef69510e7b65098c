from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import ray

from guidelines_core.verl_adapter import liveness


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    environment = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    ray.init(num_cpus=2, include_dashboard=False, address="local", runtime_env={"env_vars": environment})
    yield
    ray.shutdown()


def test_the_dead_are_named_and_the_busy_are_not_disturbed(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # In the function, so that Ray sends it by value: its workers do not find this module.
    class Worker:
        def pid(self) -> int:
            return os.getpid()

        def work(self) -> None:
            time.sleep(600)

    monkeypatch.setattr(liveness, "EVERY_S", 0.0)
    remote = ray.remote(Worker)
    busy, other = remote.remote(), remote.remote()
    pid = ray.get(other.pid.remote())
    busy.work.remote()
    watch = liveness.Liveness([("busy worker", busy), ("agent loop worker", other)])
    for _ in range(5):
        watch.check()
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="the agent loop worker died"):  # noqa: PT012, it takes Ray a moment
        for _ in range(200):
            watch.check()
            time.sleep(0.1)


def test_a_call_is_abandoned_when_one_dies_that_it_waits_for(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def pid(self) -> int:
            return os.getpid()

    monkeypatch.setattr(liveness, "EVERY_S", 0.0)
    server = ray.remote(Server).remote()
    watch = liveness.Liveness([("rollout server", server)])
    done: list[int] = []
    watch.during(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        watch.during(lambda: 1 / 0)
    os.kill(ray.get(server.pid.remote()), signal.SIGKILL)
    with pytest.raises(liveness.ProcessDiedError, match="the rollout server died"):
        watch.during(lambda: threading.Event().wait(30))
