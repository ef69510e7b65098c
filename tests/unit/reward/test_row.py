"""The graded row's one schema."""

from __future__ import annotations

import math
from dataclasses import replace

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.reward.row import COLUMNS, GradedRow, dump, load, table
from guidelines_core.runs.mlflow_sync import TABLE_COLUMNS

ROW = GradedRow(
    problem_id="p", question="1 + 1?", gold="2", guideline="Add.", guideline_leak=0.0, solution="2",
    solution_tokens=3.5, solution_truncated=0.0, correct=dict.fromkeys(GRADERS, 1.0), reason="correct", acc=1.0,
    score=0.5, solver_sampling="greedy", asked_at="2026-01-01T00:00:00+00:00", solver_s=1.0, grader_s=0.1,
)  # fmt: skip


def test_rows_travel_as_a_text() -> None:
    rows = [ROW, replace(ROW, sample=1, solution="\u00e9 \n $x$", correct=dict.fromkeys(GRADERS, 0.0), baseline=0.25)]
    back = load(dump(rows))
    assert [row.solution for row in back] == [row.solution for row in rows]
    assert back[1].baseline == 0.25
    assert math.isnan(back[0].baseline)
    assert back[1].correct == dict.fromkeys(GRADERS, 0.0)


def test_training_and_validation_have_the_same_columns_of_the_same_types() -> None:
    training = table(
        [replace(ROW, step=3, group="g", rollout=2, guideline_tokens=7, guideline_truncated=0, advantage=1)]
    )
    validation, empty = table([ROW]), table([])
    assert list(training.columns) == list(validation.columns) == list(empty.columns) == list(COLUMNS)
    assert training.dtypes.to_dict() == validation.dtypes.to_dict()
    assert training["guideline_tokens"].dtype == float
    assert {f"{name}_correct" for name in GRADERS} < set(COLUMNS)
    assert set(TABLE_COLUMNS) < set(COLUMNS)
