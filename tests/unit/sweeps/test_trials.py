"""The sweep's side of its trials, with a trainer that trains nothing: watchdog, failures, new starts, kept trainers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from guidelines_core.hardware.shapes import gpus
from guidelines_core.paths import ROOT
from sweeps import trial
from sweeps.axes import BATCH, Point
from sweeps.failures import TrialFailedError, TrialTooSlowError
from sweeps.leftovers import this_worker
from sweeps.loop import TrialRequest
from sweeps.machine import Machine
from sweeps.record import HOLDER, PARENT, Record, journal_of
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, open_study
from sweeps.trainer import TrainerProcess
from sweeps.trial import Steps, Trials
from tests.support.stub_trainer import DIES, ENDLESS, FINE, OUT_OF_MEMORY, STALLS, figures

SEED, SHARE = "data.seed", "actor_rollout_ref.rollout.gpu_memory_utilization"
FINE_POINT = {BATCH: 4, SEED: FINE, SHARE: 0.5}


class Stub(TrainerProcess):
    module = "tests.support.stub_trainer"


@pytest.fixture(scope="module")
def space() -> Space:
    axes = {BATCH: (4, 8), SEED: (FINE, STALLS, OUT_OF_MEMORY, DIES, ENDLESS), SHARE: (0.5, 0.6)}
    return Space("tiny", Steps().overrides(), axes, Machine(0, gpus()["H100"]))


@pytest.fixture(scope="module")
def record(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("record")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    study = open_study(space, Goal(), open_storage(f"sqlite:///{folder / 'optuna.db'}"))
    made = Record(study, "sweeps", folder)
    del os.environ["MLFLOW_TRACKING_URI"]
    return made


@pytest.fixture
def trials(space: Space, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trials]:
    monkeypatch.setattr(trial, "TrainerProcess", Stub)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # A trial's own seed is an axis here, and no engine is built: every axis but the share is warm.
    monkeypatch.setattr("sweeps.space.WARM", frozenset({BATCH, SEED}))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = Trials(space, Goal(), Steps(), record, tmp_path)
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def request(name: str, point: Point, report: Callable[[int, float], None] = lambda *_: None) -> TrialRequest:
    return TrialRequest(name, point, False, report)


def test_a_trainer_is_kept_until_a_cold_value_changes(trials: Trials) -> None:
    first = trials.measure(request("a", FINE_POINT))
    assert first.value == pytest.approx(16 / 0.2)
    assert trials.measure(request("b", {**FINE_POINT, BATCH: 8})).value == pytest.approx(32 / 0.2)
    assert trials.starts == 1
    assert trials.cold() == (0.5,)
    trials.measure(request("c", {**FINE_POINT, SHARE: 0.6}))
    assert trials.starts == 2
    assert trials.cold() == (0.6,)


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        (STALLS, "timeout: step 2 took longer than 2 s"),
        (OUT_OF_MEMORY, "out of memory: RayTaskError: worker died"),
        (DIES, "error: the trainer ended: RuntimeError: the driver is no more"),
    ],
)
def test_a_failure_has_its_cause_and_the_next_trial_a_new_trainer(
    trials: Trials, record: Record, monkeypatch: pytest.MonkeyPatch, behaviour: int, cause: str
) -> None:
    name = f"fails-{behaviour}"
    before = psutil.Process().children(recursive=True)
    with monkeypatch.context() as impatient:
        if behaviour == STALLS:
            impatient.setattr(trial, "STALL_MIN_S", 1.5)
        with pytest.raises(TrialFailedError, match=cause):
            trials.measure(request(name, {**FINE_POINT, SEED: behaviour}))
    left = [child for child in psutil.Process().children(recursive=True) if child not in before]
    assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []
    assert trials.measure(request(f"after-{behaviour}", FINE_POINT)).value > 0
    assert trials.starts == 2
    client = MlflowClient(record.uri)
    (run,) = client.search_runs([client.get_run(record.parent).info.experiment_id], f"attributes.run_name = '{name}'")
    assert run.info.status == "FAILED"
    assert run.data.tags["guidelines.end"].startswith(cause)


def test_the_runs_of_killed_sweeps_are_closed_and_those_of_living_ones_not(
    space: Space, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, living = (record.begin(name, {}) for name in ("of-the-dead", "of-the-living"))
    record.client.set_terminated(dead, "FINISHED")  # as verl does when it is ended
    record.client.set_tag(dead, HOLDER, f"{socket.gethostname()} 999999:0.00")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", record.uri)
    study = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"))
    study.set_user_attr(PARENT, record.parent)
    assert Record(study, "sweeps", tmp_path).parent == record.parent
    assert [record.client.get_run(run).info.status for run in (dead, living)] == ["KILLED", "RUNNING"]
    record.end(living, "FINISHED", "", {})


def test_of_two_workers_the_one_that_made_the_study_makes_its_run(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    study = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"))
    workers = {threading.current_thread().name: this_worker()}
    monkeypatch.setattr(
        "sweeps.record.this_worker", lambda: workers.get(threading.current_thread().name, "another machine")
    )
    with ThreadPoolExecutor() as pool:
        other = pool.submit(Record, study, "sweeps", tmp_path)
        time.sleep(1)
        assert not other.done()
        ours = Record(study, "sweeps", tmp_path)
        assert other.result().parent == ours.parent
    runs = ours.client.search_runs([ours.client.get_run(ours.parent).info.experiment_id])
    assert [run.info.run_id for run in runs] == [ours.parent]


def test_the_last_worker_that_measures_closes_the_studys_run(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    record = Record(open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")), "sweeps", tmp_path)

    def status() -> str:
        return str(record.client.get_run(record.parent).info.status)

    others = record.begin("another-workers", {})
    record.client.set_tag(others, HOLDER, "elsewhere 1:0.00")
    ours = record.begin("ours", {})
    record.close("FINISHED", "done", {})
    assert status() == "RUNNING"
    record.end(ours, "FINISHED", "", {})
    record.end(others, "FINISHED", "", {})
    record.close("FINISHED", "done", {"sweep/best": 1.0})
    assert status() == "FINISHED"
    assert record.client.get_run(record.parent).data.metrics == {"sweep/best": 1.0}
    record.end(record.begin("of-one-that-goes-on", {}), "FINISHED", "", {})
    assert status() == "RUNNING"


def test_a_slow_trial_ends_after_its_step_and_the_trainer_is_kept(trials: Trials) -> None:
    seen = []

    def report(step: int, value: float) -> None:
        seen.append((step, value))
        raise TrialTooSlowError("below the median")

    with pytest.raises(TrialTooSlowError):
        trials.measure(request("slow", {**FINE_POINT, SEED: ENDLESS}, report))
    assert seen == [(1, 80.0)]
    trials.measure(request("next", FINE_POINT))
    assert trials.starts == 1


def test_a_trials_run_holds_its_steps_and_its_figures(trials: Trials, record: Record) -> None:
    trials.measure(request("recorded", FINE_POINT))
    client = MlflowClient(record.uri)
    (run,) = client.search_runs([client.get_run(record.parent).info.experiment_id], "attributes.run_name = 'recorded'")
    history = client.get_metric_history(run.info.run_id, "reward/graded")
    assert sorted((metric.step, metric.value) for metric in history) == [(step, 16.0) for step in (1, 2, 3, 4)]
    assert run.data.metrics["sweep/graded_rollouts_per_s"] == pytest.approx(16 / 0.2)
    assert run.info.status == "FINISHED"


def test_a_trial_reads_only_what_its_own_command_wrote(trials: Trials, tmp_path: Path) -> None:
    stale = journal_of(tmp_path, "again")
    stale.parent.mkdir(parents=True)
    line = json.dumps({"step": 1, "data": {**figures({"data": {"train_batch_size": 400}}), "reward/graded": 1600.0}})
    stale.write_text(f"{line}\n{line}\n{line}\n{line}\n{line[:20]}")
    assert trials.measure(request("again", FINE_POINT)).value == pytest.approx(16 / 0.2)


def test_a_stop_on_request_ends_the_trial(trials: Trials) -> None:
    def stop(step: int, value: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        trials.measure(request("stopped", {**FINE_POINT, SEED: ENDLESS}, stop))
