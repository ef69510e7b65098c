"""The study: its storage, which trials count, and the loop that runs the remaining trials."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url

from guidelines_core.paths import ROOT
from sweeps.leftovers import this_worker
from sweeps.objective import Measured, slower_than_median
from sweeps.sampler import CAUSE, RATE, REFERENCE, TRUNCATED, Exhausted, FeasibleSampler, suggested
from sweeps.space import Point, Space

DATABASE = ROOT / "optuna.db"
HEARTBEAT_S, GRACE_S = 5, 20
"""Seconds between a trial's heartbeats, and seconds without one after which the trial counts as lost."""

LIMIT = "limit"
"""User attribute of a study: the truncated share that its best trial may have."""

MAKER = "made_by"
"""User attribute of a study: the worker that made it, by machine, process and that one's start."""

MAKER_S = 20.0
"""How long a worker waits for the one that makes the study to say so."""

POINT_SUGGESTED = "asked"
"""User attribute of a trial that has a value on every axis."""

INTERRUPTED = "interrupted"
"""User attribute of a trial that was stopped on request; its point is queued again."""

# Heartbeats and their callback are what Optuna calls experimental.
warnings.filterwarnings("ignore", category=ExperimentalWarning)


class Failed(RuntimeError):
    """A trial ended without a figure; the message is its cause: out of memory, solver lost, timeout, …."""


class TooSlow(RuntimeError):
    """A trial was stopped because its step was slower than the median's."""


@dataclass(frozen=True)
class TrialRequest:
    """A trial to be measured.

    Attributes:
        name: the trial's name, unique in its study.
        point: its value on every axis.
        reference: whether it is the experiment as it is.
        report: called with the number, from 1, and the rate of each measured step; raises `TooSlow` to end the trial.
    """

    name: str
    point: Point
    reference: bool
    report: Callable[[int, float], None]


@dataclass(frozen=True)
class Goal:
    """What a study looks for.

    Attributes:
        objective: one of `objective.OBJECTIVES`.
        pareto: whether truncation is a second objective and not a limit.
        limit: the truncated share that is allowed.
    """

    objective: str = "graded"
    pareto: bool = False
    limit: float = 0.05


class Requeue(RetryHeartbeatStaleTrialCallback):
    """Queues a lost trial's point again, once, without what the lost trial had already noted of itself."""

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Queue the point of `trial`, which Optuna has failed; half a point is none."""
        if POINT_SUGGESTED not in trial.user_attrs:
            trial.params, trial.distributions = {}, {}
        trial.user_attrs = {key: value for key, value in trial.user_attrs.items() if key == REFERENCE}
        attributes = ("failed_trial", "retry_history", "fixed_params")
        trial.system_attrs = {key: value for key, value in trial.system_attrs.items() if key in attributes}
        super().__call__(study, trial)


def storage(url: str | None) -> RDBStorage:
    """Return the storage at a database's URL, by default SQLite at the repository's root.

    A trial whose worker has been silent for `GRACE_S` seconds is failed and queued again, once.
    """
    made = make_url(url or f"sqlite:///{DATABASE}")
    if made.drivername == "postgresql":
        # SQLAlchemy 2.1 would take another driver than 2.0.
        made = made.set(drivername="postgresql+psycopg2")
    wait = {"connect_args": {"timeout": 60}} if made.drivername.startswith("sqlite") else {}
    return RDBStorage(
        made.render_as_string(hide_password=False),
        engine_kwargs={"pool_pre_ping": True, **wait},
        heartbeat_interval=HEARTBEAT_S,
        grace_period=GRACE_S,
        heartbeat_stale_trial_callback=Requeue(max_retry=1),
    )


def study_name(space: Space, goal: Goal) -> str:
    """Return the study's name: another space, machine, override or goal is another study."""
    identity = [space.experiment, space.overrides, {k: list(v) for k, v in space.axes.items()}, goal.limit,
                space.machine.gpus, space.machine.gpu.name]  # fmt: skip
    digest = hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:6]
    return f"{space.experiment}-{'pareto' if goal.pareto else goal.objective}-{digest}"


def open_study(space: Space, goal: Goal, store: RDBStorage, seed: int | None = None) -> Study:
    """Return the study of a space and goal, made if it is not there; the reference is its first trial."""
    sampler = FeasibleSampler(space, seed, None if goal.pareto else goal.limit)
    directions = [StudyDirection.MAXIMIZE, *([StudyDirection.MINIMIZE] if goal.pareto else [])]
    name = study_name(space, goal)
    try:
        study = optuna.create_study(study_name=name, storage=store, sampler=sampler, directions=directions)
        made = True
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=store, sampler=sampler)
        made = False
    if goal.pareto:
        study.set_metric_names(["rollouts/s", "truncated"])
    study.set_user_attr(LIMIT, goal.limit)
    # Of several workers that start at once, one has made it.
    if made:
        study.set_user_attr(MAKER, this_worker())
        study.enqueue_trial(space.reference, user_attrs={REFERENCE: True})
    return study


def study_folder(parent: Path, study: Study) -> Path:
    """Return where a study's files lie under `parent`: another study of the same name has another folder.

    A name says what is looked for, and comes again in another storage, or when the storage was deleted.
    """
    deadline = time.monotonic() + MAKER_S
    while MAKER not in (known := study.user_attrs) and time.monotonic() < deadline:
        time.sleep(0.2)
    digest = hashlib.sha256(str(known.get(MAKER)).encode()).hexdigest()[:6]
    return parent / f"{study.study_name}-{digest}"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: not those that were stopped or lost and are queued again under another number."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in again and INTERRUPTED not in trial.user_attrs]


def run(
    study: Study,
    space: Space,
    goal: Goal,
    trials: int,
    measure: Callable[[TrialRequest], Measured],
    cold: Callable[[], tuple[Any, ...] | None] = lambda: None,
) -> None:
    """Measure until `trials` trials of the study count and are finished, those of other workers included.

    `cold` says which values the next trial should have to need no new start of a trainer, None if any will do.

    Raises:
        Exhausted: the space has no point left.
    """
    while True:
        here = counted(study.get_trials(deepcopy=False))
        unfinished = [trial for trial in here if not trial.state.is_finished()]
        if len(here) >= trials and not unfinished:
            return
        waiting = any(trial.state == TrialState.WAITING for trial in unfinished)
        if waiting or len(here) < trials:
            sampler = study.sampler
            assert isinstance(sampler, FeasibleSampler)
            sampler.stay_within(cold())
            if not waiting and sampler.exhausted(study):
                raise Exhausted(
                    f"after {len(here)} of {trials} trials every point that can run was tried, or asks for "
                    "no less than one that failed; a wider space has more"
                )
            study.optimize(lambda trial: _unless_too_many(trial, trials, space, goal, measure), n_trials=1)
            continue
        # Only other workers' trials are left; one of them may be dead.
        time.sleep(1)
        optuna.storages.fail_stale_trials(study)


def _unless_too_many(
    trial: Trial, trials: int, space: Space, goal: Goal, measure: Callable[[TrialRequest], Measured]
) -> float | tuple[float, float]:
    """Measure the trial, unless two workers began the last one at the same time and this is the later."""
    earlier = [other for other in counted(trial.study.get_trials(deepcopy=False)) if other.number < trial.number]
    if len(earlier) >= trials:
        trial.set_user_attr(INTERRUPTED, "one too many: another worker began the last trial at the same time")
        raise optuna.TrialPruned
    return objective(trial, space, goal, measure)


def objective(
    trial: Trial, space: Space, goal: Goal, measure: Callable[[TrialRequest], Measured]
) -> float | tuple[float, float]:
    """Measure one trial and return its value; a failure is a pruned trial with its cause and a broken constraint."""
    point: Point = {}
    reference = REFERENCE in trial.user_attrs
    try:
        point = suggested(trial, space)
        trial.set_user_attr(POINT_SUGGESTED, True)
        measured = measure(TrialRequest(f"trial-{trial.number:04d}", point, reference, _reporter(trial, goal)))
    except Failed as error:
        trial.set_user_attr(CAUSE, str(error))
        trial.set_constraint("failed", 1.0)
        raise optuna.TrialPruned(str(error)) from error
    except TooSlow as error:
        raise optuna.TrialPruned(str(error)) from error
    except KeyboardInterrupt:
        trial.set_user_attr(INTERRUPTED, "stopped on request")
        if point:
            trial.study.enqueue_trial(point, user_attrs={REFERENCE: True} if reference else None)
        raise
    for name, value in measured.metrics.items():
        trial.set_user_attr(name, value)
    trial.set_user_attr(RATE, measured.value)
    trial.set_user_attr(TRUNCATED, measured.truncated)
    trial.set_constraint("failed", 0.0)
    if goal.pareto:
        return measured.value, measured.truncated
    trial.set_constraint("truncated", measured.truncated - goal.limit)
    return measured.value


def _reporter(trial: Trial, goal: Goal) -> Callable[[int, float], None]:
    """Return the callback for each step's rate: it ends a trial below the median, with two objectives none."""

    def report(step: int, value: float) -> None:
        if goal.pareto:
            return
        trial.report(value, step)
        finished = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [
            other.intermediate_values[step]
            for other in finished
            if step in other.intermediate_values and within_limit(other, goal.limit)
        ]
        if REFERENCE not in trial.user_attrs and slower_than_median(value, others):
            trial.set_user_attr("pruned", f"step {step}: {value:.3g} rollouts/s, below the median")
            raise TooSlow(f"step {step}: {value:.3g} rollouts/s is below the median of {len(others)} trials")

    return report


def within_limit(trial: FrozenTrial, limit: float) -> bool:
    """Return whether a trial was measured and truncated at most the share `limit` of its texts."""
    return trial.state == TrialState.COMPLETE and bool(trial.user_attrs[TRUNCATED] <= limit)


def best(study: Study) -> FrozenTrial | None:
    """Return the fastest trial within the study's limit; None before there is one."""
    limit = study.user_attrs[LIMIT]
    found = [trial for trial in study.get_trials(deepcopy=False) if within_limit(trial, limit)]
    return max(found, key=lambda trial: float(trial.user_attrs[RATE]), default=None)


def reference(study: Study) -> FrozenTrial | None:
    """Return the finished trial that measured the experiment as it is; None before there is one."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((trial for trial in reversed(finished) if REFERENCE in trial.user_attrs), None)
