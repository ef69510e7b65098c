"""The loop that runs a study's remaining trials, and the handling of each trial's end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps.attributes import (
    ATTEMPT,
    CAUSE,
    INTERRUPTED,
    MACHINE,
    POINT_SUGGESTED,
    RATE,
    REFERENCE,
    REPEATED,
    TRUNCATED,
)
from sweeps.axes import Point
from sweeps.candidates import suggest_point
from sweeps.cost import recording_cost
from sweeps.failures import TrialFailedError, TrialTooSlowError, excludes_larger
from sweeps.objective import Measured, slower_than_median
from sweeps.sampler import FeasibleSampler, SpaceExhaustedError
from sweeps.space import Space
from sweeps.study import Goal, counted, within_limit

REPEATS = 2
"""How often a point is tried again after a failure other than out of memory."""

FAILURES_IN_A_ROW = 4
"""The number of failures in a row, other than out of memory, that end a worker's sweep."""


class RepeatedFailureError(RuntimeError):
    """Too many trials in a row failed for causes other than memory; the message has the last one's."""


@dataclass(frozen=True)
class TrialRequest:
    """A request to measure a trial.

    Attributes:
        name: the trial's name, unique in its study.
        point: a value on every axis.
        reference: whether the trial measures the experiment itself.
        report: called with the number, from 1, and the rate of each measured step; may raise `TrialTooSlowError`.
    """

    name: str
    point: Point
    reference: bool
    report: Callable[[int, float], None]


def run(
    study: Study,
    space: Space,
    goal: Goal,
    trials: int,
    measure: Callable[[TrialRequest], Measured],
    cold: Callable[[], tuple[Any, ...] | None] = lambda: None,
) -> None:
    """Measure until the study has `trials` finished trials that count, including those of other workers.

    `cold` returns the cold values with which the next trial needs no new trainer; None if there is no such preference.

    Raises:
        SpaceExhaustedError: the space has no point left.
        RepeatedFailureError: `FAILURES_IN_A_ROW` trials in a row failed, none of them for memory.
    """
    failures: list[str] = []
    seen: set[int] = set()
    noted = _noting(measure, failures)
    while True:
        here = counted(study.get_trials(deepcopy=False))
        unfinished = [trial for trial in here if not trial.state.is_finished()]
        if len(here) >= trials and not unfinished:
            return
        waiting = any(trial.state == TrialState.WAITING for trial in unfinished)
        if waiting or len(here) < trials:
            sampler = study.sampler
            assert isinstance(sampler, FeasibleSampler)
            sampler.prefer_cold(cold())
            if not waiting and sampler.exhausted(study):
                raise SpaceExhaustedError(
                    f"after {len(here)} of {trials} trials every point that can run was tried, or is no smaller than "
                    "one that ran out of memory; a wider space has more"
                )
            study.optimize(lambda trial: _measure_if_needed(trial, trials, space, goal, noted), n_trials=1)
            if len(failures) >= FAILURES_IN_A_ROW:
                raise RepeatedFailureError(
                    f"{len(failures)} trials in a row failed, none of them for memory; the last: {failures[-1]}. "
                    "Fix the cause; the same command continues"
                )
            continue
        # Only trials of other workers are left, and a worker may be dead.
        time.sleep(1)
        fail_lost_trials(study, unfinished, seen)


def fail_lost_trials(study: Study, running: Sequence[FrozenTrial], seen: set[int]) -> None:
    """Fail and queue again those of the `running` trials whose worker has been silent for `storage.GRACE_S` seconds.

    Optuna passes over a trial without a heartbeat (`RDBStorage._get_stale_trial_ids`), whose worker was lost between
    the trial's beginning and its first one. So each trial gets one from here when it is first seen, which `seen`
    remembers; that of a live worker is renewed by it anyway.
    """
    for trial in running:
        if trial.number not in seen:
            seen.add(trial.number)
            study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    optuna.storages.fail_stale_trials(study)


def _noting(measure: Callable[[TrialRequest], Measured], failures: list[str]) -> Callable[[TrialRequest], Measured]:
    """Return `measure`, extended to collect in `failures` the reasons of consecutive failures other than memory."""

    def noted(request: TrialRequest) -> Measured:
        try:
            measured = measure(request)
        except TrialFailedError as error:
            failures[:] = [] if excludes_larger(str(error)) else [*failures, str(error)]
            raise
        except TrialTooSlowError:
            failures.clear()
            raise
        failures.clear()
        return measured

    return noted


def _measure_if_needed(
    trial: Trial, trials: int, space: Space, goal: Goal, measure: Callable[[TrialRequest], Measured]
) -> float | tuple[float, float]:
    """Measure the trial, unless two workers began the last one at the same time and this is the later one."""
    earlier = [other for other in counted(trial.study.get_trials(deepcopy=False)) if other.number < trial.number]
    if len(earlier) >= trials:
        trial.set_user_attr(INTERRUPTED, "one too many: another worker began the last trial at the same time")
        raise optuna.TrialPruned
    return objective(trial, space, goal, measure)


def objective(
    trial: Trial, space: Space, goal: Goal, measure: Callable[[TrialRequest], Measured]
) -> float | tuple[float, float]:
    """Measure one trial and return its objective, with Pareto also the truncated share.

    A failure is a pruned trial with its cause and a violated constraint. Unless it ran out of memory, its point is
    queued again, at most `REPEATS` times.
    """
    point: Point = {}
    reference = REFERENCE in trial.user_attrs
    trial.set_user_attr(MACHINE, str(space.machine))
    try:
        point = suggest_point(trial, space)
        trial.set_user_attr(POINT_SUGGESTED, True)
        request = TrialRequest(f"trial-{trial.number:04d}", point, reference, _reporter(trial, goal))
        with recording_cost(trial, space, point):
            measured = measure(request)
    except TrialFailedError as error:
        trial.set_user_attr(CAUSE, str(error))
        trial.set_constraint("failed", 1.0)
        attempt = trial.user_attrs.get(ATTEMPT, 0)
        if not excludes_larger(str(error)) and attempt < REPEATS:
            _queue_again(trial, point, attempt + 1)
            trial.set_user_attr(REPEATED, True)
        raise optuna.TrialPruned(str(error)) from error
    except TrialTooSlowError as error:
        raise optuna.TrialPruned(str(error)) from error
    except KeyboardInterrupt:
        trial.set_user_attr(INTERRUPTED, "stopped on request")
        if point:
            _queue_again(trial, point, trial.user_attrs.get(ATTEMPT, 0))
        raise
    for name, value in measured.metrics.items():
        trial.set_user_attr(name, value)
    trial.set_user_attr(RATE, measured.value)
    trial.set_user_attr(TRUNCATED, measured.truncated)
    if goal.pareto:
        return measured.value, measured.truncated
    trial.set_constraint("truncated", measured.truncated - goal.limit)
    return measured.value


def _queue_again(trial: Trial, point: Point, attempt: int) -> None:
    """Queue the point of a trial again, marked as the reference if the trial was."""
    kept = {name: True for name in (REFERENCE,) if name in trial.user_attrs}
    trial.study.enqueue_trial(point, user_attrs={**kept, ATTEMPT: attempt})


def _reporter(trial: Trial, goal: Goal) -> Callable[[int, float], None]:
    """Return the callback for each step's rate, which ends a trial below the median; with Pareto it ends none."""

    def report(step: int, value: float) -> None:
        if goal.pareto:
            return
        trial.report(value, step)
        finished = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [
            other.intermediate_values[step]
            for other in finished
            if step in other.intermediate_values
            and within_limit(other, goal.limit)
            and other.user_attrs.get(MACHINE) == trial.user_attrs[MACHINE]
        ]
        if REFERENCE not in trial.user_attrs and slower_than_median(value, others):
            trial.set_user_attr("pruned", f"step {step}: {value:.3g} rollouts/s, below the median")
            raise TrialTooSlowError(f"step {step}: {value:.3g} rollouts/s is below the median of {len(others)} trials")

    return report
