"""The watch on the solver, over real processes that serve HTTP, are killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from guidelines_core.solver.watch import SolverLostError, SolverWatch

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"choices": [{"message": {"content": "1"}, "finish_reason": "length"}],
                           "usage": {"completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""

SETTINGS = SimpleNamespace(model="m", probe_every_s=0.1, probe_s=1.0, restart_within_s=8.0)


class Processes:
    """Servers as the watch knows them, each a process."""

    def __init__(self, count: int) -> None:
        self.server_addresses = [""] * count
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self.script = SERVER
        self.restarts: list[int] = []
        self.watches: list[SolverWatch] = []
        for rank in range(count):
            self._start(rank)

    def restart(self, rank: int) -> None:
        self.restarts.append(rank)
        self.end(rank)
        self._start(rank)

    def end(self, rank: int) -> None:
        process = self.processes[rank]
        if process is not None:
            process.kill()
            process.wait()

    def _start(self, rank: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen([sys.executable, "-c", self.script, str(port)])
        self.processes[rank] = process
        self.server_addresses[rank] = f"127.0.0.1:{port}"
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("no memory for the model")

    def send(self, rank: int, number: int) -> None:
        process = self.processes[rank]
        assert process is not None
        os.kill(process.pid, number)


@pytest.fixture
def servers() -> Iterator[Processes]:
    started = Processes(2)
    yield started
    # A watch that goes on would start them again.
    for watch in started.watches:
        watch.stop()
        watch._thread.join(10)
    for rank in range(2):
        started.end(rank)


def watched(servers: Processes, told: list[list[str]], settings: SimpleNamespace = SETTINGS) -> SolverWatch:
    watch = SolverWatch(servers, lambda addresses: told.append(list(addresses)), settings)
    servers.watches.append(watch)
    watch.start()
    return watch


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_wedged_server_is_started_again_and_everybody_told(servers: Processes, number: int) -> None:
    told: list[list[str]] = []
    watch = watched(servers, told)
    time.sleep(0.5)
    assert servers.restarts == []
    other = servers.server_addresses[0]
    servers.send(1, number)
    wait_for(lambda: told)
    watch.check()
    wait_for(lambda: watch._down_since is None)
    assert servers.restarts == [1]
    assert told == [[other, servers.server_addresses[1]]]
    metrics = watch.take_metrics()
    assert metrics["solver/restarts"] == 1
    assert 0 < metrics["solver/down_s"] < 10
    assert watch.take_metrics() == {"solver/restarts": 0, "solver/down_s": 0}


def test_a_server_that_does_not_come_back_is_lost(servers: Processes) -> None:
    settings = SimpleNamespace(**{**vars(SETTINGS), "restart_within_s": 60.0})
    watch = watched(servers, [], settings)
    servers.script = "raise SystemExit(3)"
    servers.send(0, signal.SIGKILL)
    wait_for(lambda: len(servers.restarts) > 1)
    watch.check()
    settings.restart_within_s = 0.0
    with pytest.raises(SolverLostError, match=r"restart_within_s=0.0: no memory for the model"):
        watch.check()
    watch.stop()


def test_a_start_that_hangs_is_lost_as_well(servers: Processes) -> None:
    settings = SimpleNamespace(**{**vars(SETTINGS), "restart_within_s": 60.0})
    hangs = threading.Event()

    def hang(rank: int) -> None:
        hangs.set()
        watch._ended.wait(30)

    servers.restart = hang  # type: ignore[method-assign]
    watch = watched(servers, [], settings)
    servers.send(0, signal.SIGKILL)
    wait_for(hangs.is_set)
    watch.check()
    settings.restart_within_s = 0.0
    with pytest.raises(SolverLostError, match="its start has not ended"):
        watch.check()
    watch.stop()
