"""Which rollouts become traces, what is in one, and what a real store holds after copies that were interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.entities
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracing.client import TracingClient
from omegaconf import OmegaConf

from guidelines_core.reward.row import GradedRow, table
from guidelines_core.runs.claim import claim
from guidelines_core.runs.trace_sync import TraceCopier
from guidelines_core.runs.traces import EVERY, RECENT, Origin, sample, steps_with_traces, traces
from guidelines_core.runs.tracking import Run

ORIGIN = Origin("1" * 32, "name", "1", "math_verify", "instruct")
SECTION = {
    "traces": {"train": 1, "validation": 2},
    "grader": {"name": "math_verify"},
    "prompts": {"style": "instruct"},
}


def row(step: int, group: str, rollout: int, score: float, **more: Any) -> GradedRow:
    given_by_test = {"guideline": f"guideline {rollout}", "solution": "\\boxed{7}", "problem_id": group, **more}
    return GradedRow(
        step=step, group=group, rollout=rollout, score=score, acc=score, question=f"question of {group}", gold="7",
        guideline_leak=0.0, solution_tokens=5.0, solution_truncated=0.0, guideline_tokens=4.0, guideline_truncated=0.0,
        correct={"math_verify": score, "exact_match": 0.0}, reason="correct" if score else "wrong",
        solver_sampling="greedy", asked_at="2026-11-30T10:00:00.5+00:00", solver_s=2.0, grader_s=0.25, **given_by_test,
    )  # fmt: skip


def step_rows(step: int, solution: str = "\\boxed{7}") -> pd.DataFrame:
    """Two rollouts each of a group with equal rewards and of one with mixed rewards."""
    rewards = {"a": (1.0, 1.0), "b": (0.0, 1.0)}
    return table(
        row(step, group, rollout, score, advantage=score - 0.5, solution=solution)
        for group, scores in rewards.items()
        for rollout, score in enumerate(scores)
    )


def test_groups_with_mixed_rewards_are_read_first() -> None:
    assert set(sample(step_rows(1), "train", {"train": 1})["group"]) == {"b"}
    assert set(sample(step_rows(1), "train", {"train": 2})["group"]) == {"a", "b"}
    assert sample(step_rows(1), "train", {"train": 0}).empty


def test_of_validation_the_same_problems_are_read_each_time() -> None:
    for groups in (["u", "v", "w"], ["w", "u", "v"]):
        rows = table(row(5, group, 0, 0.0, problem_id=name) for group, name in zip(groups, "zxy", strict=True))
        assert sorted(sample(rows, "validation", {"validation": 2})["problem_id"]) == ["x", "y"]


@given(st.sets(st.integers(0, 1000), max_size=200))
def test_recent_steps_stay_and_older_ones_are_thinned(steps: set[int]) -> None:
    kept = steps_with_traces(steps)
    assert kept <= steps
    assert set(sorted(steps)[-RECENT:]) | set(sorted(steps)[:1]) <= kept
    assert all(step % EVERY == 0 for step in kept - set(sorted(steps)[-RECENT:]) - set(sorted(steps)[:1]))
    assert len(kept) <= RECENT + 1 + 1000 // EVERY + 1


def test_a_trace_is_the_problem_with_planner_solver_and_grader_below_it() -> None:
    (_, right) = traces(sample(step_rows(3), "train", {"train": 1}), "train", ORIGIN)
    root, planner, solver, grader = right.spans
    assert [span.name for span in right.spans] == ["problem", "planner", "solver", "grader"]
    assert {span.parent_id for span in (planner, solver, grader)} == {root.span_id}
    assert root.inputs == {"problem": "question of b", "gold": "7"}
    assert root.outputs == {"step": "train step 3", "guideline": "guideline 1", "reward": 1.0}
    assert "question of b" in planner.inputs["messages"][-1]["content"]
    assert planner.outputs == "guideline 1"
    assert "guideline 1" in solver.inputs["messages"][-1]["content"]
    assert solver.outputs == "\\boxed{7}"
    assert solver.attributes["seconds"] == 2.0
    assert grader.outputs == {"math_verify": True, "exact_match": False, "reason": "correct"}
    assert (solver.end_time_ns - solver.start_time_ns, grader.end_time_ns - grader.start_time_ns) == (2e9, 25e7)
    assert right.info.response_preview == "step 3, reward 1: guideline 1"
    assert right.info.execution_duration == 2250
    wanted = {"step": "3", "split": "train", "group": "b", "problem": "b", "run": "name"}
    assert wanted.items() <= right.info.tags.items()
    assert {each.name: each.feedback.value for each in right.info.assessments} == {
        "verdict": True, "leak": "none", "advantage": 0.5,
    }  # fmt: skip


def test_several_solutions_to_a_guideline_are_one_trace() -> None:
    rows = table(row(1, "a", 0, 0.5, sample=n, solution=f"solution {n}") for n in range(2))
    rows["acc"] = [1.0, 0.0]
    (found,) = traces(rows, "train", ORIGIN)
    assert found.spans[2].outputs == ["solution 0", "solution 1"]
    assert len(found.spans[3].outputs) == 2
    assert {each.name: each.feedback.value for each in found.info.assessments} == {"verdict": 0.5, "leak": "none"}


@pytest.mark.parametrize(("leaks", "said"), [(0.0, "none"), (1.0, "gold answer")])
def test_a_leak_is_said_in_words(leaks: float, said: str) -> None:
    (found,) = traces(table([row(1, "a", 0, 0.5)]).assign(guideline_leak=leaks), "train", ORIGIN)
    assert {each.name: each.feedback.value for each in found.info.assessments}["leak"] == said


def test_a_trace_keeps_its_id_and_another_text_has_another() -> None:
    ids = [
        [trace.info.trace_id for trace in traces(step_rows(1, solution), "train", ORIGIN)]
        for solution in ("first", "first", "second")
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
    assert len(set(ids[0])) == 4


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    names = {"experiment_name": "name", "project_name": "project"}
    run = claim(OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path / "name"), **names}}), resume=False,
                new=False)  # fmt: skip
    (run.directory / "rows").mkdir()
    return run


def write(run: Run, step: int, solution: str = "\\boxed{7}", split: str = "train") -> None:
    step_rows(step, solution).to_parquet(run.directory / f"rows/{split}_{step:06d}.parquet")


def held(run: Run) -> list[mlflow.entities.Trace]:
    """Return the run's traces, each of which has spans."""
    experiment = run.client.get_run(run.claim.run_id).info.experiment_id
    found, with_spans = (
        list(run.client.search_traces(locations=[experiment], max_results=100, include_spans=wanted))
        for wanted in (False, True)
    )
    assert len(found) == len(with_spans)
    return with_spans


def copy(run: Run) -> None:
    TraceCopier(run, SECTION).copy(run.client)


def test_a_copy_that_is_repeated_writes_nothing_twice(run: Run) -> None:
    write(run, 1)
    write(run, 1, split="validation")
    copy(run)
    (run.directory / "rows/.traced.json").unlink()
    copy(run)
    found = held(run)
    assert sorted((trace.info.tags["split"], trace.info.tags["group"]) for trace in found) == [
        ("train", "b"), ("train", "b"), ("validation", "a"), ("validation", "a"), ("validation", "b"),
        ("validation", "b"),
    ]  # fmt: skip
    assert all(len(trace.data.spans) == 4 for trace in found)
    assert all(len(trace.info.assessments) == 3 for trace in found)
    experiment = found[0].info.experiment_id
    said = run.client.search_traces(locations=[experiment], filter_string="trace.text LIKE '%guideline 1%'")
    assert len(said) == 3


def test_a_step_trained_again_has_the_traces_of_its_last_try(run: Run) -> None:
    write(run, 1, "first try")
    copy(run)
    write(run, 1, "second try")
    copy(run)
    assert [trace.data.spans[2].outputs for trace in held(run)] == ["second try"] * 2


def test_an_interrupted_copy_is_completed_and_leaves_nothing_of_an_earlier_try(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: TracingClient, location: str, spans: object) -> None:
        raise ConnectionError("the store is away")

    write(run, 1, "first try")
    with monkeypatch.context() as away:
        away.setattr(TracingClient, "log_spans", fails)
        with pytest.raises(ConnectionError):
            copy(run)
    write(run, 1, "second try")
    copy(run)
    assert [trace.data.spans[2].outputs for trace in held(run)] == ["second try"] * 2


def test_the_traces_of_older_steps_are_deleted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidelines_core.runs.traces.RECENT", 2)
    copier = TraceCopier(run, SECTION)
    for step in range(8, 13):
        write(run, step)
        copier.copy(run.client)
    assert sorted({int(trace.info.tags["step"]) for trace in held(run)}) == [8, 10, 11, 12]


def test_a_run_without_the_setting_has_no_traces(run: Run) -> None:
    write(run, 1)
    TraceCopier(run, {}).copy(run.client)
    TraceCopier(run, {**SECTION, "traces": {"train": 0, "validation": 0}}).copy(run.client)
    assert held(run) == []
