"""The graded row: one solution, its verdicts, and the rollout that it belongs to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import pandas as pd

from guidelines_core.grading.verdicts import GRADERS


@dataclass(frozen=True)
class GradedRow:
    """One graded solution; a rollout whose guideline got k solutions has k rows.

    Training and validation have the same columns. The trainer fills in what the reward workers do not know: step,
    group, rollout, whether the guideline was cut, and in training the advantage, which is NaN in validation.

    Attributes:
        step: the training step; in validation the last one before it.
        group: the name of the prompt's group.
        rollout: number of the guideline within its group.
        sample: number of the solution to this guideline.
        problem_id: the problem's id.
        question: the problem.
        gold: its gold answer.
        baseline: the solver's share of right solutions without a guideline; NaN where it was not measured.
        guideline: the planner's text.
        guideline_tokens: its length.
        guideline_truncated: 1.0 if it was cut at the limit.
        guideline_leak: 1.0 if it contains the gold answer.
        advantage: the rollout's advantage within its group.
        solution: the solver's text.
        solution_tokens: its length; of k solutions from one request, their mean.
        solution_truncated: 1.0 if it was cut at the limit.
        correct: each grader's verdict on this solution, 1.0 or 0.0, by the grader's name; a column `NAME_correct` each.
        reason: the reason of the configured grader's verdict.
        acc: that verdict, 1.0 or 0.0.
        score: the rollout's reward, the same for all its rows.
        solver_sampling: how the solver was sampled, in words.
        asked_at: when the solver was asked, ISO 8601.
        solver_s: seconds from then to its answer.
        grader_s: seconds for the verdicts on all of the rollout's solutions.
    """

    problem_id: str
    question: str
    gold: str
    guideline: str
    guideline_leak: float
    solution: str
    solution_tokens: float
    solution_truncated: float
    correct: dict[str, float]
    reason: str
    acc: float
    score: float
    solver_sampling: str
    asked_at: str
    solver_s: float
    grader_s: float
    baseline: float = math.nan
    sample: int = 0
    step: int = 0
    group: str = ""
    rollout: int = 0
    guideline_tokens: float = math.nan
    guideline_truncated: float = math.nan
    advantage: float = math.nan


def dump(rows: Iterable[GradedRow]) -> str:
    """Return a rollout's rows as a text, which verl keeps with the rollout and does not average."""
    return json.dumps([asdict(row) for row in rows])


def load(text: str) -> list[GradedRow]:
    """Return the rows of a `dump`."""
    return [GradedRow(**fields_of) for fields_of in json.loads(text)]


COLUMNS = (
    *(field.name for field in fields(GradedRow) if field.name != "correct"),
    *(f"{grader}_correct" for grader in GRADERS),
)
"""The columns of a `table`, of training and validation alike."""

FLOATS = (*(field.name for field in fields(GradedRow) if field.type == "float"), *COLUMNS[-len(GRADERS) :])


def table(rows: Iterable[GradedRow]) -> pd.DataFrame:
    """Return the rows as a table of `COLUMNS`: one for each attribute, and `NAME_correct` for each grader."""
    own = COLUMNS[: -len(GRADERS)]
    values = [
        [getattr(row, name) for name in own] + [row.correct.get(grader, math.nan) for grader in GRADERS] for row in rows
    ]
    found: pd.DataFrame = pd.DataFrame(values, columns=[*COLUMNS]).astype(dict.fromkeys(FLOATS, float))
    return found
