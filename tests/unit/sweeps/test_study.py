"""The study: what a failure teaches, what counts, and that no stop or kill loses a trial."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from guidelines_core.paths import ROOT
from sweeps import storage
from sweeps.attributes import CAUSE, REFERENCE
from sweeps.axes import BATCH, RESPONSE, ROLLOUTS, SPACES, Point
from sweeps.candidates import at_least_as_large
from sweeps.failures import TrialFailedError, TrialTooSlowError
from sweeps.loop import TrialRequest, run
from sweeps.objective import Measured
from sweeps.sampler import SpaceExhaustedError
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, best, counted, open_study, reference, study_folder, study_name
from tests.support.study import HERE, kill_and_continue, measured, rollouts, truncated
from tests.support.warm_python import STUDIES, warm_python

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)


def opened(space: Space, tmp_path: Path, goal: Goal = Goal()) -> optuna.Study:  # noqa: B008, frozen
    return open_study(space, goal, open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), seed=0)


def in_memory(space: Space, goal: Goal = Goal()) -> optuna.Study:  # noqa: B008, frozen
    """Open a study that no other process sees: its trials take a third of the time."""
    storage: Any = InMemoryStorage()
    return open_study(space, goal, storage, seed=0)


def test_the_first_trial_is_the_reference_and_the_best_keeps_the_limit(space: Space) -> None:
    study = in_memory(space)
    run(study, space, Goal(), 14, measured)
    trials = study.get_trials()
    assert len(trials) == 14
    first, top = reference(study), best(study)
    assert first is not None
    assert first.number == 0
    assert first.params == space.reference
    assert top is not None
    assert top.params == {BATCH: 8, ROLLOUTS: 8, RESPONSE: 32}
    assert {tuple(trial.params.values()) for trial in trials if truncated(trial.params) == 0.2}  # some were tried


def test_no_point_is_measured_twice(space: Space) -> None:
    study = in_memory(space)
    run(study, space, Goal(), 27, measured)
    points = [tuple(trial.params.items()) for trial in study.get_trials() if REFERENCE not in trial.user_attrs]
    assert len(points) == len(set(points)) == 26
    with pytest.raises(SpaceExhaustedError, match="after 28 of 40 trials every point that can run was tried"):
        run(study, space, Goal(), 40, measured)


def test_a_failure_is_kept_with_its_cause_and_not_asked_for_again(space: Space) -> None:
    def out_of_memory(request: TrialRequest) -> Measured:
        if request.point[BATCH] * request.point[ROLLOUTS] >= 32:
            raise TrialFailedError("out of memory: cuda:0")
        return measured(request)

    study = in_memory(space)
    run(study, space, Goal(), 16, out_of_memory)
    trials = study.get_trials()
    failed = [trial for trial in trials if CAUSE in trial.user_attrs]
    assert 1 <= len(failed) <= 6  # of 9, with the best points next to them
    assert all(trial.state == TrialState.PRUNED and trial.constraints["failed"] == 1.0 for trial in failed)
    assert all(trial.user_attrs[CAUSE] == "out of memory: cuda:0" for trial in failed)
    for bad in failed:
        later = [trial.params for trial in trials if trial.number > bad.number]
        assert not any(at_least_as_large(point, bad.params) for point in later)


@pytest.mark.parametrize(
    ("point", "verdict"),
    [
        ({"a": 2, "b": 4, "w": "x"}, True),
        ({"a": 3, "b": 4, "w": "x"}, True),
        ({"a": 1, "b": 9, "w": "x"}, False),
        ({"a": 3, "b": 4, "w": "y"}, False),
    ],
)
def test_the_same_or_a_larger_point(point: Point, verdict: bool) -> None:
    assert at_least_as_large(point, {"a": 2, "b": 4, "w": "x"}) is verdict


def test_a_trial_below_the_median_is_ended_after_its_first_step(space: Space) -> None:
    ended = []

    def stepwise(request: TrialRequest) -> Measured:
        for step in (1, 2):
            try:
                request.report(step, rollouts(request.point))
            except TrialTooSlowError:
                ended.append(step)
                raise
        return measured(request)

    study = in_memory(space)
    run(study, space, Goal(), 16, stepwise)
    slow = [trial for trial in study.get_trials() if trial.state == TrialState.PRUNED]
    assert len(slow) == len(ended) > 0
    assert set(ended) == {1}


def test_with_two_objectives_the_front_is_traced(space: Space) -> None:
    goal = Goal(pareto=True)
    study = in_memory(space, goal)
    run(study, space, goal, 20, measured)
    front = {tuple(trial.params.values()) for trial in study.best_trials}
    assert front == {(8, 8, 16), (8, 8, 32)}


def test_a_stop_on_request_queues_the_point_again(space: Space, tmp_path: Path) -> None:
    study = opened(space, tmp_path)
    run(study, space, Goal(), 3, measured)

    def stop(request: TrialRequest) -> Measured:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, space, Goal(), 6, stop)
    interrupted = study.get_trials()[3]
    again = opened(space, tmp_path)
    run(again, space, Goal(), 6, measured)
    trials = again.get_trials()
    assert trials[4].params == interrupted.params
    assert trials[4].state == TrialState.COMPLETE
    assert len(counted(trials)) == 6
    assert len(trials) == 7


def test_another_space_or_goal_is_another_study(space: Space, tmp_path: Path) -> None:
    other = Space(space.experiment, ("data.seed=1",), space.axes, HERE)
    names = [study_name(*of) for of in ((space, Goal()), (other, Goal()), (space, Goal(limit=0.1)))]
    assert len(set(names)) == 3


def test_a_study_owns_its_folder(space: Space, tmp_path: Path) -> None:
    first = study_folder(tmp_path, opened(space, tmp_path))
    assert study_folder(tmp_path, opened(space, tmp_path)) == first
    (tmp_path / "optuna.db").unlink()
    code = f"from tests.unit.sweeps.test_study import *; print(folder_in_another_process({str(tmp_path)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [warm_python(STUDIES), "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    again = Path(said.stdout.strip())
    assert again.parent == first.parent
    assert again != first


def folder_in_another_process(parent: str) -> Path:
    """Return the folder of the same study, opened by another command."""
    return study_folder(Path(parent), opened(Space.load(SPACES / "quick.yaml", "quickstart", (), HERE), Path(parent)))


def test_a_worker_that_was_lost_before_its_first_heartbeat_blocks_no_one(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(storage, "GRACE_S", 2)
    study = opened(space, tmp_path)
    lost = study.ask()
    run(study, space, Goal(), 2, measured)
    states = [trial.state for trial in study.get_trials()]
    assert states[lost.number] == TrialState.FAIL
    assert states.count(TrialState.COMPLETE) == 2


def test_killed_and_continued_no_trial_is_lost_or_counted_twice(space: Space, tmp_path: Path) -> None:
    kill_and_continue(space, tmp_path, 1, 6)
