"""Several workers on one study, in a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_sweep_study import HERE, check_nothing_lost, worker

from sweeps.space import SPACES, Space
from sweeps.study import Goal, open_study, storage

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    if BINARIES is None or (os.geteuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("there is no PostgreSQL server on this machine")
    # The server refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    folder.chmod(0o777)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port={port} -c fsync=off"
    control = [*user, str(BINARIES / "pg_ctl"), "-D", str(folder / "data"), "-w", "-l", str(folder / "log")]
    subprocess.run([*control[:-3], "initdb", "-o", "--auth=trust --username=sweep"], check=True, cwd="/", stdout=-3)
    subprocess.run([*control, "-o", options, "start"], check=True, cwd="/", stdout=-3)
    try:
        yield f"postgresql://sweep@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/", stdout=-3)
        shutil.rmtree(folder, ignore_errors=True)


def test_three_workers_share_a_study_and_one_is_killed(postgresql: str) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)
    study = open_study(space, Goal(), storage(postgresql))
    workers = [worker(postgresql, 16) for _ in range(3)]
    while len(study.get_trials(deepcopy=False)) < 4:
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    assert [process.wait(timeout=300) for process in workers] == [-signal.SIGKILL, 0, 0]
    check_nothing_lost(postgresql, space, 16, 1)
