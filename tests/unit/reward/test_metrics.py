"""A step's metrics out of its graded rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.reward.metrics import reward_metrics, uplift
from guidelines_core.reward.repeated import repeated
from guidelines_core.reward.row import GradedRow, table

ROW = GradedRow(
    problem_id="p", question="1 + 1?", gold="2", guideline="Add.", guideline_leak=0.0, solution="2",
    solution_tokens=4.0, solution_truncated=0.0, correct=dict.fromkeys(GRADERS, 1.0), reason="correct", acc=1.0,
    score=1.0, solver_sampling="", asked_at="", solver_s=1.0, grader_s=0.1, guideline_tokens=8.0,
    guideline_truncated=0.0, group="g",
)  # fmt: skip


def rollout(number: int, right: tuple[int, int], seconds: float, **more: float) -> list[GradedRow]:
    """Return the two rows of a rollout whose solutions are right or not."""
    row = replace(ROW, rollout=number, score=sum(right) / 2, solver_s=seconds, **more)  # type: ignore[arg-type]
    return [
        replace(row, sample=k, acc=float(one), correct=dict.fromkeys(GRADERS, float(one)),
                reason="correct" if one else "wrong")
        for k, one in enumerate(right)
    ]  # fmt: skip


def test_rollouts_count_once_and_solutions_each() -> None:
    rows = table([*rollout(0, (1, 0), 1.0, guideline_leak=1.0), *rollout(1, (1, 1), 3.0)])
    found = reward_metrics(rows)
    assert (found["reward/graded"], found["reward/mean"], found["reward/mixed_groups"]) == (2.0, 0.75, 1.0)
    assert all(found[f"reward/{name}_accuracy"] == 0.75 for name in GRADERS)
    assert (found["verdict/correct"], found["verdict/wrong"]) == (0.75, 0.25)
    assert (found["guideline/leak"], found["solver/latency_p50_s"]) == (0.5, 2.0)
    assert found["signal/samples"] == 2.0
    assert "reward/uplift" not in found


def test_one_solution_each_has_no_signal() -> None:
    found = reward_metrics(table([ROW, replace(ROW, rollout=1)]))
    assert not [name for name in found if name.startswith("signal/")]
    assert not any(math.isnan(value) for value in found.values())


def test_a_guideline_of_several_problems_is_repeated_and_one_of_several_rollouts_is_not() -> None:
    written = [("p", "Add."), ("p", "Add."), ("q", "Divide."), ("q", " Read it.\n"), ("r", "Read it."), ("s", "Add")]
    rows = [
        replace(ROW, problem_id=problem, group=problem, guideline=text, rollout=number, sample=sample)
        for number, (problem, text) in enumerate(written)
        for sample in (0, 1)
    ]
    assert reward_metrics(table(rows))["guideline/repeated"] == pytest.approx(2 / 6)


@given(st.lists(st.tuples(st.sampled_from("pqrs"), st.sampled_from(["", "a", "b", "c"])), min_size=1))
def test_all_are_repeated_if_all_are_alike_and_none_if_each_names_its_problem(written: list[tuple[str, str]]) -> None:
    rows = pd.DataFrame(written, columns=["problem_id", "guideline"])
    assert repeated(rows.assign(guideline="x")) == (rows["problem_id"].nunique() > 1)
    assert repeated(rows.assign(guideline=rows["problem_id"] + rows["guideline"])) == 0
    others = [len({problem for problem, other in written if other == text}) > 1 for _, text in written]
    assert repeated(rows) == pytest.approx(sum(others) / len(others))


def test_uplift_is_over_the_problems_that_have_a_baseline() -> None:
    rows = table([*rollout(0, (1, 0), 1.0, baseline=0.25), *rollout(1, (0, 0), 1.0)])
    assert uplift("reward", rows) == {"reward/uplift": pytest.approx(0.25)}
    assert reward_metrics(rows)["reward/uplift"] == pytest.approx(0.25)
