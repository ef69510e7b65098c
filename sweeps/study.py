"""A study: its name, its goal, which of its trials count, and which is the best."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.attributes import COMMAND, INTERRUPTED, LIMIT, MACHINE, MAKER, RATE, REFERENCE, REPEATED, TRUNCATED
from sweeps.leftovers import this_worker
from sweeps.sampler import FeasibleSampler
from sweeps.space import Space

FORMAT = 2
"""Part of a study's name: a study whose trials were recorded otherwise is another one."""

COST = "guidelines.cost."
"""The keys that change nothing of what is measured."""

MAKER_S = 20.0
"""Seconds that a worker waits for the attribute `MAKER` of a new study."""


@dataclass(frozen=True)
class Goal:
    """The objective of a study and its limit.

    Attributes:
        objective: one of `objective.OBJECTIVES`.
        pareto: whether truncation is a second objective and not a limit.
        limit: the largest truncated share that is allowed.
    """

    objective: str = "graded"
    pareto: bool = False
    limit: float = 0.05


def study_name(space: Space, goal: Goal) -> str:
    """Return the study's name: another space, machine, override or goal is another study; another price is not."""
    overrides = [word for word in space.overrides if not word.startswith(COST)]
    identity = [FORMAT, space.experiment, overrides, {k: list(v) for k, v in space.axes.items()}, goal.limit,
                space.machine.gpus, space.machine.gpu.name]  # fmt: skip
    digest = hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:6]
    return f"{space.experiment}-{'pareto' if goal.pareto else goal.objective}-{digest}"


def open_study(space: Space, goal: Goal, store: RDBStorage, seed: int | None = None) -> Study:
    """Return the study of a space and goal; create it if it does not exist, with the reference as its first trial."""
    sampler = FeasibleSampler(space, seed)
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
    # Of several workers that start at once, one has created it.
    if made:
        study.set_user_attr(MAKER, this_worker())
        study.set_user_attr(COMMAND, shlex.join(sys.argv))
        study.enqueue_trial(space.reference, user_attrs={REFERENCE: True})
    return study


def study_folder(parent: Path, study: Study) -> Path:
    """Return the folder of a study's files under `parent`, which differs between studies of the same name.

    Two studies of one space and goal have the same name if they are in two storages, or if the first was deleted.
    """
    deadline = time.monotonic() + MAKER_S
    while MAKER not in (known := study.user_attrs) and time.monotonic() < deadline:
        time.sleep(0.2)
    digest = hashlib.sha256(str(known.get(MAKER)).encode()).hexdigest()[:6]
    return parent / f"{study.study_name}-{digest}"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count toward the study's number: all but those that a later trial repeats."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    replaced = (INTERRUPTED, REPEATED)
    return [t for t in trials if t.number not in again and not any(name in t.user_attrs for name in replaced)]


def within_limit(trial: FrozenTrial, limit: float) -> bool:
    """Return whether a trial was measured and its truncated share is at most `limit`."""
    return trial.state == TrialState.COMPLETE and bool(trial.user_attrs[TRUNCATED] <= limit)


def machines(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Return the number of measured trials by machine, the largest number first."""
    measured = (trial.user_attrs.get(MACHINE, "") for trial in trials if trial.state == TrialState.COMPLETE)
    return dict(Counter(measured).most_common())


def comparable(study: Study) -> Study:
    """Return the study if one machine measured its trials; else a copy with the trials of one machine.

    That is the machine with the most measured trials. Rates of different machines are not comparable.
    """
    trials = study.get_trials(deepcopy=False)
    found = list(machines(trials))
    if len(found) < 2:
        return study
    copy = optuna.create_study(study_name=study.study_name, directions=study.directions)
    for name, value in study.user_attrs.items():
        copy.set_user_attr(name, value)
    if study.metric_names:
        copy.set_metric_names(study.metric_names)
    copy.add_trials([trial for trial in trials if trial.user_attrs.get(MACHINE) == found[0]])
    return copy


def best(study: Study) -> FrozenTrial | None:
    """Return the fastest of the `comparable` trials within the study's limit; None if there is none yet."""
    limit = study.user_attrs[LIMIT]
    found = [trial for trial in comparable(study).get_trials(deepcopy=False) if within_limit(trial, limit)]
    return max(found, key=lambda trial: float(trial.user_attrs[RATE]), default=None)


def reference(study: Study) -> FrozenTrial | None:
    """Return the last `comparable` trial that measured the experiment itself; None if there is none yet."""
    finished = comparable(study).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((trial for trial in reversed(finished) if REFERENCE in trial.user_attrs), None)
