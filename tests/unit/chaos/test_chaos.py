from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil

from guidelines_core.launch import processes, shared_memory
from tests.chaos.faults import rows, two_starts
from tests.chaos.loop import TARGETS, Loop, differences, servers_of
from tests.chaos.pressure import pressure_rows
from tests.chaos.run import as_table, results_of, save


def test_runs_differ_by_a_value_a_step_or_a_metric() -> None:
    expected = {"loss": {1: 0.5, 2: 100.0}, "reward": {1: 1.0}}
    assert differences({"loss": {1: 0.5 + 1e-6, 2: 100.0005}, "reward": {1: 1.0}}, expected) == []
    assert differences({"loss": {1: 0.5 + 1e-4, 2: 100.0}, "reward": {1: 1.0}}, expected) == ["loss"]
    assert differences({"loss": {1: 0.5}, "reward": {1: 1.0}}, expected) == ["loss"]
    assert differences({"loss": {1: 0.5, 2: 100.0}}, expected) == ["reward"]
    assert differences({"loss": {1: float("nan"), 2: 100.0}, "reward": {1: 1.0}}, expected) == ["loss"]


def test_each_process_is_known_by_its_title() -> None:
    titles = {
        "/venv/python /project/experiments/run.py --name quickstart": "run.py",
        "/venv/python -m guidelines_core.launch.supervisor /venv/python a.yaml": "supervisor",
        "/venv/python -m guidelines_core.launch.driver a.yaml": "verl's launcher",
        "ray::GuidelinesTaskRunner.run": "verl's driver",
        "ray::WorkerDict.actor_rollout_ref_update_actor": "actor",
        "ray::AgentLoopWorkerTQ": "agent loop worker",
        "ray::RewardWorker.compute_score": "reward worker",
        "/ray/core/src/ray/raylet/raylet --raylet_socket_name=x": "raylet",
    }
    for title, name in titles.items():
        assert [target for target, matches in TARGETS.items() if matches(title)] == [name]


SERVE = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
kept = [server.accept() for _ in range(9)]
"""
ASK = """
import socket, sys
asked = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
sys.stdin.read()
"""


def test_the_solvers_server_is_the_one_that_reward_workers_ask() -> None:
    with ExitStack() as ended:

        def python(*words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-c", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            ended.callback(process.wait)
            ended.callback(process.kill)
            return process

        first, second = python(SERVE), python(SERVE)
        servers = [psutil.Process(server.pid) for server in (first, second)]
        ports = [int(server.stdout.readline()) for server in (first, second) if server.stdout]
        assert servers_of(servers, []) == servers
        for port, expected in ((ports[1], servers[::-1]), (ports[0], servers)):
            worker = python(ASK, str(port))
            assert worker.stdout
            assert worker.stdout.readline()
            assert servers_of(servers, [psutil.Process(worker.pid)]) == expected


def test_a_row_that_did_not_pass_is_red() -> None:
    row = {
        "what": "SIGKILL to actor",
        "when": "starting",
        "recovered": False,
        "differing_metrics": ["a"],
        "passed": False,
    }
    assert as_table({"kill 0": row}).rows[0].style == "red"


def test_what_the_run_noted_as_its_own_is_looked_for_and_nothing_of_others(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    folder = tmp_path / f"{processes.TEMPORARY}12345678"
    (loop.directory / "logs").mkdir(parents=True)
    folder.mkdir()
    processes.note_folder(loop.directory, "attempt-1", folder)
    own, foreign = (shared_memory.SHARED / f"psm_{tmp_path.parent.name}_{name}" for name in ("own", "foreign"))
    try:
        for segment in (own, foreign):
            segment.touch()
        (folder / shared_memory.RECORD).write_text(f"{own.stat().st_ino} {own.name}\n")
        loop.note_segments()
        assert loop.leftovers(seconds=0) == [own.name, folder.name]
        shutil.rmtree(folder)
        own.unlink()
        assert loop.leftovers(seconds=0) == []
    finally:
        own.unlink(missing_ok=True)
        foreign.unlink()


def test_every_row_has_a_name_of_its_own() -> None:
    assert not rows(0, 20).keys() & pressure_rows().keys()


def test_of_two_starts_in_one_moment_one_gets_the_directory(tmp_path: Path) -> None:
    assert two_starts(Loop(tmp_path), None, times=3)["wrong"] == []


def test_rows_of_another_commit_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "chaos.json"
    now, before = ({"mlflow.source.git.commit": commit} for commit in ("b" * 40, "a" * 40))
    assert results_of(now, path) == {"machine": now, "rows": {}}
    found = {"machine": now, "unbroken": {}, "rows": {"kill 0": {"passed": True}}}
    save(path, found)
    assert results_of(now, path) == found
    save(path, {**found, "machine": before})
    assert results_of(now, path) == {"machine": now, "rows": {}}
