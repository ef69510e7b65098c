"""Speed of guidelines and solutions from a step's graded rows, and the estimate for one request at a time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.diagnosis.step_time import by_call


def generation(rows: pd.DataFrame, phases: Mapping[str, float]) -> dict[str, float]:
    """Return one step's seconds and tokens/s of rollout and solver.

    Args:
        rows: the step's graded rollouts, as `GradedRows` writes them.
        phases: verl's seconds by phase. With `reward` among them the solver works after all guidelines are written,
            else at the same time.

    Returns:
        `rollout_s` from the generation's start to the last guideline; `solver_s` from the first question asked to the
        last answer; `solver_unhidden_s`, what of that lies behind the last guideline; tokens/s of both; the tokens of
        the longest guideline and of the longest solution.
    """
    longest = rows[["guideline_tokens", "solution_tokens"]].max()
    rows = by_call(rows)
    asked = pd.to_datetime(rows["asked_at"]).map(pd.Timestamp.timestamp)
    answered = asked + rows["solver_s"]
    if "reward" in phases:
        rollout_s, unhidden_s = phases["gen"], answered.max() - asked.min()
    else:
        # A trainer with a separate rollout waits for less than that: what it trains on was asked for a step before.
        unhidden_s = min(answered.max() - asked.max(), phases["gen"])
        rollout_s = phases["gen"] - ((answered + rows["grader_s"]).max() - asked.max())
    solver_s = answered.max() - asked.min()
    found = {
        "solver_s": solver_s,
        "solver_unhidden_s": unhidden_s,
        "solver_tokens_per_s": rows["solution_tokens"].sum() / solver_s,
        "longest_guideline": longest["guideline_tokens"],
        "longest_solution": longest["solution_tokens"],
    }
    # With a separate rollout, guidelines are awaited and not written within the step.
    if rollout_s > 0:
        found |= {"rollout_s": rollout_s, "rollout_tokens_per_s": rows["guideline_tokens"].sum() / rollout_s}
    return {name: float(value) for name, value in found.items()}


def generation_of_run(directory: Path, steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the medians of `generation` over a run's `steps`, each step's metrics as verl logs them."""
    found = []
    for step in steps:
        rows = pd.read_parquet(directory / f"rows/train_{int(step['training/global_step']):06d}.parquet")
        phases = {name: step[f"timing_s/{name}"] for name in ("gen", "reward") if f"timing_s/{name}" in step}
        found.append(generation(rows, phases))
    return {name: round(statistics.median(each[name] for each in found if name in each), 3) for name in found[0]}


def one_at_a_time(arm: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of `arm` with its solver used as in `sample`, an arm with few solutions one at a time.

    A step waits for the solver from the first request to the last answer. That time is replaced by the sample's seconds
    per solution times the arm's solutions.
    """
    solutions, asked = (round(entry["metrics"]["reward/graded"]) for entry in (arm, sample))
    each = sample["solver_s"] / asked
    more = solutions * each - arm["solver_s"]
    phase = "reward" if "reward" in arm["phases"] else "gen"
    phases = {**arm["phases"], phase: arm["phases"][phase] + more, "step": arm["phases"]["step"] + more}
    tokens_per_s = sample["solver_tokens_per_s"]
    return {
        "extrapolated": {"from": arm["name"], "solutions": asked, "s_a_solution": round(each, 4)},
        "s_per_step": round(arm["s_per_step"] + more, 4),
        "phases": {name: round(seconds, 4) for name, seconds in phases.items()},
        "solver_s": round(solutions * each, 3),
        "solver_tokens_per_s": tokens_per_s,
    }
