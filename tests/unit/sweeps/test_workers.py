"""Several workers on one study, in a real PostgreSQL server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from guidelines_core.config.compose import ConfigError
from guidelines_core.paths import ROOT
from sweeps import throughput
from sweeps.axes import SPACES
from sweeps.cluster import refuse_local_stores
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, open_study
from tests.support.postgres import Server, binaries
from tests.support.study import HERE, check_nothing_lost, worker, worker_code

PROGRAMS = binaries()
needs_postgresql = pytest.mark.skipif(
    PROGRAMS is None, reason="no PostgreSQL server is installed here (initdb, pg_ctl)"
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    assert PROGRAMS is not None
    server = Server(PROGRAMS)
    yield server.uri
    server.remove()


@needs_postgresql
def test_three_workers_share_a_study_and_one_is_killed(postgresql: str) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)
    study = open_study(space, Goal(), open_storage(postgresql))
    workers = [worker(postgresql, 9) for _ in range(3)]
    while len(study.get_trials(deepcopy=False)) < 4:
        assert [process.poll() for process in workers] == [None] * 3, "a worker ended before there were four trials"
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    assert [process.wait(timeout=1200) for process in workers] == [-signal.SIGKILL, 0, 0]
    check_nothing_lost(postgresql, space, 9, 1)


ON_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
from sweeps.cluster import run_workers
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0, "include_dashboard": False}})
for _ in range(2):
    cluster.add_node(num_cpus=0, resources={{"place": 1}})
command = [sys.executable, "-c", {code!r}]
codes = run_workers(cluster.address, command, 2, {{"num_cpus": 0, "resources": {{"place": 1}}}}, {{}})
cluster.shutdown()
sys.exit(codes != [0, 0])
"""


@needs_postgresql
def test_workers_are_tasks_of_a_ray_cluster(postgresql: str) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", ("data.seed=2",), HERE)
    code = worker_code(postgresql, 6).replace('"quickstart", ()', '"quickstart", ("data.seed=2",)')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", ON_CLUSTER.format(code=code)]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    check_nothing_lost(postgresql, space, 6, 0)
    trials = open_study(space, Goal(), open_storage(postgresql)).get_trials()
    begun = sorted(trial.datetime_start for trial in trials if trial.datetime_start)
    ended = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete)
    assert any(begin < end for begin, end in zip(begun[1:], ended, strict=False)), "one after the other"


@pytest.mark.parametrize(
    ("storage", "tracking", "named"),
    [
        (None, "http://store:5000", "--storage=sqlite"),
        ("sqlite:///optuna.db", "http://store:5000", "--storage=sqlite"),
        ("postgresql://host/optuna", "sqlite:///mlflow.db", "MLFLOW_TRACKING_URI=sqlite"),
    ],
)
def test_a_cluster_needs_stores_that_every_machine_reaches(storage: str | None, tracking: str, named: str) -> None:
    refuse_local_stores("postgresql://host/optuna", "http://store:5000")
    with pytest.raises(ConfigError, match=named):
        refuse_local_stores(storage, tracking)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--workers", "0"], "--workers=0: expected 1 or more"),
        (["--export", "best"], "--ray with --export or --confirm: expected neither"),
        (["--confirm"], "--ray with --export or --confirm: expected neither"),
        (["data.no_such_key=1"], "data.no_such_key"),
    ],
)
def test_what_workers_on_a_cluster_cannot_do_is_refused(
    words: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "throughput.py",
        "--name",
        "tiny",
        "--trials",
        "2",
        "--ray",
        "auto",
        "--storage",
        "postgresql://host/studies",
    ]
    monkeypatch.setattr(sys, "argv", [*command, *words])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://store:5000")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert throughput.main() == 2
    assert named in " ".join(capsys.readouterr().err.split())
