"""Several workers on one study, in a real PostgreSQL server."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from postgres import Server, binaries
from test_sweep_study import HERE, check_nothing_lost, worker

from sweeps.space import SPACES, Space
from sweeps.study import Goal, open_study, storage

PROGRAMS = binaries()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed here (initdb, pg_ctl)")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    assert PROGRAMS is not None
    server = Server(PROGRAMS)
    yield server.uri
    server.remove()


def test_three_workers_share_a_study_and_one_is_killed(postgresql: str) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)
    study = open_study(space, Goal(), storage(postgresql))
    workers = [worker(postgresql, 9) for _ in range(3)]
    while len(study.get_trials(deepcopy=False)) < 4:
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    assert [process.wait(timeout=300) for process in workers] == [-signal.SIGKILL, 0, 0]
    check_nothing_lost(postgresql, space, 9, 1)
