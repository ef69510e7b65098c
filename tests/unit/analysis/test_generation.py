from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

from analysis.bench.generation import generation, generation_of_run, one_at_a_time

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def rows(asked: list[float]) -> pd.DataFrame:
    """Four rollouts asked so many seconds after noon, each answered after 4 s and graded 0.5 s later."""
    graded: pd.DataFrame = pd.DataFrame(
        {
            "asked_at": [(NOON + timedelta(seconds=s)).isoformat() for s in asked],
            "solver_s": 4.0,
            "grader_s": 0.5,
            "solution_tokens": 600,
            "guideline_tokens": 100,
        }
    )
    return graded


def test_a_solver_beside_the_rollout_is_unhidden_behind_the_last_guideline_alone() -> None:
    # Generation began 10 s before the last verdict, which came 4.5 s after the last question.
    found = generation(rows([0, 1, 2, 6]), {"gen": 10.0})
    assert found == pytest.approx(
        {
            "solver_s": 10.0,
            "solver_unhidden_s": 4.0,
            "solver_tokens_per_s": 240.0,
            "rollout_s": 5.5,
            "rollout_tokens_per_s": 400 / 5.5,
            "longest_guideline": 100.0,
            "longest_solution": 600.0,
        }
    )


def test_a_solver_in_turns_is_wholly_unhidden() -> None:
    found = generation(rows([0, 0, 0, 1]), {"gen": 8.0, "reward": 7.0})
    assert (found["rollout_s"], found["solver_s"], found["solver_unhidden_s"]) == pytest.approx((8.0, 5.0, 5.0))
    assert found["rollout_tokens_per_s"] == pytest.approx(50.0)


def test_guidelines_that_were_there_before_the_step_have_no_speed() -> None:
    found = generation(rows([0, 0, 0, 0]), {"gen": 0.01})
    assert "rollout_s" not in found
    assert found["solver_unhidden_s"] == 0.01


def test_a_runs_figures_are_the_medians_of_its_steps(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    steps = []
    for step, last in ((2, 0.0), (3, 6.0), (4, 2.0)):
        rows([0, 0, 0, last]).to_parquet(tmp_path / f"rows/train_{step:06d}.parquet")
        steps.append({"training/global_step": float(step), "timing_s/gen": 20.0})
    found = generation_of_run(tmp_path, steps)
    assert found["solver_s"] == 6.0
    assert found["solver_tokens_per_s"] == 400.0


@pytest.mark.parametrize("phase", ["reward", "gen"])
def test_one_solution_at_a_time_replaces_the_solvers_seconds_alone(phase: str) -> None:
    arm = {
        "name": "reference",
        "s_per_step": 60.0,
        "phases": {"gen": 8.0, phase: 8.0, "update_actor": 40.0, "step": 60.0},
        "metrics": {"reward/graded": 120.0},
        "solver_s": 5.0,
    }
    sample = {"metrics": {"reward/graded": 8.0}, "solver_s": 16.0, "solver_tokens_per_s": 300.0}
    found = one_at_a_time(arm, sample)
    assert found["s_per_step"] == found["phases"]["step"] == 60 - 5 + 240
    assert found["phases"][phase] == 8 - 5 + 240
    assert found["phases"]["update_actor"] == 40.0
    assert found["extrapolated"] == {"from": "reference", "solutions": 8, "s_a_solution": 2.0}


def test_a_call_for_several_solutions_is_one_call_with_their_tokens() -> None:
    calls = rows([0, 1, 2, 6])
    twice = calls.loc[calls.index.repeat(2)].assign(sample=[0, 1] * 4)
    one, two = (generation(table, {"gen": 10.0}) for table in (calls, twice))
    assert two["solver_tokens_per_s"] == pytest.approx(2 * one["solver_tokens_per_s"])
    assert {key: two[key] for key in one if key != "solver_tokens_per_s"} == pytest.approx(
        {key: one[key] for key in one if key != "solver_tokens_per_s"}
    )
