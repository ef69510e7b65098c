"""A study on made-up figures, its workers as processes, and what must hold after some were killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from optuna.trial import TrialState

from guidelines_core.hardware.shapes import gpus
from guidelines_core.paths import ROOT
from sweeps.attributes import INTERRUPTED
from sweeps.axes import BATCH, RESPONSE, ROLLOUTS, Point
from sweeps.loop import TrialRequest
from sweeps.machine import Machine
from sweeps.objective import Measured
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, counted, open_study
from tests.support.warm_python import STUDIES, warm_python

HERE = Machine(0, gpus()["H100"])


def rollouts(point: Point) -> float:
    """A made-up throughput: more of everything is faster, longer texts are slower."""
    return float(point[BATCH] * point[ROLLOUTS] / (4 + point[RESPONSE] / 16))


def truncated(point: Point) -> float:
    return 0.2 if point[RESPONSE] < 32 else 0.0


def measured(request: TrialRequest) -> Measured:
    return Measured(rollouts(request.point), truncated(request.point), {})


WORKER = """
import time
from sweeps.axes import SPACES
from sweeps.space import Space
from tests.support.study import HERE, measured
from sweeps import storage
from sweeps.loop import run
from sweeps.study import Goal, open_study
storage.HEARTBEAT_S, storage.GRACE_S = 1, 10
space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)
study = open_study(space, Goal(), storage.open_storage({url!r}))
def slowly(request):
    time.sleep(0.4)
    return measured(request)
run(study, space, Goal(), {trials}, slowly)
"""


def worker_code(url: str, trials: int) -> str:
    return WORKER.format(url=url, trials=trials)


def worker(url: str, trials: int) -> subprocess.Popen[bytes]:
    code = worker_code(url, trials)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([warm_python(STUDIES), "-c", code], env=environment)


def check_nothing_lost(url: str, space: Space, trials: int, kills: int) -> None:
    """Check that so many trials count, each with one end, and that each that was killed is queued again once."""
    found = open_study(space, Goal(), open_storage(url)).get_trials()
    real = counted(found)
    lost = [trial for trial in real if trial.state == TrialState.FAIL]
    assert len(real) == trials
    assert all(trial.state.is_finished() for trial in found)
    assert len(lost) <= kills // 2  # killed twice: given up
    retried = [trial.system_attrs["failed_trial"] for trial in found if "failed_trial" in trial.system_attrs]
    assert len(retried) == len(set(retried))
    too_many = [trial for trial in found if INTERRUPTED in trial.user_attrs]
    assert len(found) - len(real) == len(retried) + len(too_many)
    assert all(trial.values == [rollouts(trial.params)] for trial in real if trial not in lost)


def kill_and_continue(space: Space, tmp_path: Path, kills: int, trials: int) -> None:
    """Kill the study's worker at random moments of its trials, then let one finish, and check what it left."""
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    chance = random.Random(0)
    study = open_study(space, Goal(), open_storage(url))
    for _ in range(kills):
        process, before = worker(url, trials), len(study.get_trials(deepcopy=False))
        while process.poll() is None and len(study.get_trials(deepcopy=False)) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert worker(url, trials).wait(timeout=300) == 0
    check_nothing_lost(url, space, trials, kills)
