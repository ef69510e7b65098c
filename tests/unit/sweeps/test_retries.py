"""A failure for another cause than memory is tried again, a bounded number of times, and rules out nothing larger."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from guidelines_core.hardware.shapes import gpus
from guidelines_core.paths import ROOT
from sweeps import throughput
from sweeps.attributes import CAUSE, REFERENCE, REPEATED
from sweeps.axes import BATCH, ROLLOUTS
from sweeps.failures import TrialFailedError
from sweeps.loop import FAILURES_IN_A_ROW, REPEATS, RepeatedFailureError, TrialRequest, run
from sweeps.machine import Machine
from sweeps.objective import Measured
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, counted, open_study, reference
from sweeps.trainer import TrainerProcess
from tests.support.stub_trainer import DIES

LOST = "solver lost: process 7 of an engine ended"


@pytest.fixture(scope="module")
def space() -> Space:
    return Space("tiny", (), {BATCH: (4, 8), ROLLOUTS: (2, 4)}, Machine(0, gpus()["H100"], cores=2))


@pytest.fixture
def study(space: Space, tmp_path: Path) -> optuna.Study:
    return open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), seed=0)


def rate(request: TrialRequest) -> Measured:
    return Measured(float(request.point[BATCH] * request.point[ROLLOUTS]), 0.0, {})


def test_an_engine_killed_in_the_first_trial_rules_out_nothing(space: Space, study: optuna.Study) -> None:
    requests: list[TrialRequest] = []

    def once_lost(request: TrialRequest) -> Measured:
        requests.append(request)
        if len(requests) == 1:
            raise TrialFailedError(LOST)
        return rate(request)

    run(study, space, Goal(), 4, once_lost)
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.PRUNED, *[TrialState.COMPLETE] * 4]
    assert [trial.number for trial in counted(trials)] == [1, 2, 3, 4]
    assert trials[1].params == trials[0].params == space.reference
    assert [request.reference for request in requests[:2]] == [True, True]
    assert reference(study) is not None


def test_a_point_that_always_fails_is_given_up_and_larger_ones_are_tried(space: Space, study: optuna.Study) -> None:
    def failing_when_small(request: TrialRequest) -> Measured:
        if request.point == {BATCH: 4, ROLLOUTS: 2}:
            raise TrialFailedError("timeout: step 2 took longer than 120 s")
        return rate(request)

    run(study, space, Goal(), 5, failing_when_small)
    trials = study.get_trials()
    failed = [trial for trial in trials if CAUSE in trial.user_attrs]
    at_point = {tuple(trial.params.values()) for trial in failed}
    assert at_point == {(4, 2)}
    per_request = 1 + REPEATS  # the reference and the point, or the point alone
    assert len(failed) % per_request == 0
    assert [REPEATED in trial.user_attrs for trial in failed[:per_request]] == [True] * REPEATS + [False]
    complete = {tuple(trial.params.values()) for trial in trials if trial.state == TrialState.COMPLETE}
    assert complete >= {(4, 4), (8, 2), (8, 4)}


def test_where_nothing_works_the_sweep_ends_with_the_reason(space: Space, study: optuna.Study) -> None:
    def never(request: TrialRequest) -> Measured:
        raise TrialFailedError("error: the trainer ended: no space left on device")

    for start in (1, 2):
        with pytest.raises(
            RepeatedFailureError, match=rf"{FAILURES_IN_A_ROW} trials in a row .*no space left on device.* continues"
        ):
            run(study, space, Goal(), 20, never)
        ended = [trial for trial in study.get_trials() if trial.state.is_finished()]
        assert len(ended) == start * FAILURES_IN_A_ROW


class Stub(TrainerProcess):
    module = "tests.support.stub_trainer"


def test_a_sweep_without_a_result_exits_1_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(f"axes:\n  {BATCH}: [4, 8]\n")
    words = ["--name", "tiny", "--trials", "3", "--space", str(space), f"data.seed={DIES}"]
    words += ["--storage", f"sqlite:///{tmp_path / 'optuna.db'}", f"trainer.default_local_dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *words])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sweeps.trial.TrainerProcess", Stub)
    monkeypatch.setattr(throughput, "check", lambda *_, **__: [])  # preflight has tests of its own, and takes seconds
    assert throughput.main() == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "4 trials in a row failed" in said
    assert "the driver is no more" in said
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    assert [REFERENCE in trial.user_attrs for trial in study.get_trials()][: 1 + REPEATS] == [True] * (1 + REPEATS)
