"""Computes a trial's objective, graded rollouts a second of wall clock, and its other metrics."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from guidelines_core.verl_adapter.trials import WALL

Step = Mapping[str, float]
"""One step's metrics, by the names that verl and `guidelines_core.verl_adapter.graded_rows` log, and `WALL`."""

OBJECTIVES = {"graded": "sweep/graded_rollouts_per_s", "effective": "sweep/effective_rollouts_per_s"}
"""The metrics that `--objective` maximizes: all graded rollouts, or those of groups with mixed rewards."""


@dataclass(frozen=True)
class Measured:
    """A trial's figures.

    Attributes:
        value: the objective, in rollouts a second over all measured steps together.
        truncated: the larger of the truncated shares of guidelines and of solutions.
        metrics: all metrics of the trial, by their MLflow names.
    """

    value: float
    truncated: float
    metrics: dict[str, float]


def measure(steps: Sequence[Step], warm_up: int, objective: str, grader: str) -> Measured:
    """Return the figures of a trial's steps after the first `warm_up`; `objective` is one of `OBJECTIVES`.

    A step's graded rollouts do not include the copies that pad a batch.

    Raises:
        ValueError: no step is left after the warm-up.
    """
    measured = steps[warm_up:]
    if not measured:
        raise ValueError(f"{len(steps)} steps leave none to measure after {warm_up} of warm-up")
    seconds = [step[WALL] for step in measured]
    total, graded = sum(seconds), sum(step["reward/graded"] for step in measured)
    rates = [step["reward/graded"] / step[WALL] for step in measured]
    with_advantage = sum(step["reward/graded"] * step["reward/mixed_groups"] for step in measured)

    def mean(key: str) -> float:
        """Return the mean over rollouts, not over steps: a step may have lost some."""
        return sum(step[key] * step["reward/graded"] for step in measured) / graded

    tokens = mean("prompt_length/mean") + mean("guideline/tokens") + mean("solution/tokens")
    low, high = np.quantile(rates, [0.25, 0.75])
    metrics = {
        OBJECTIVES["graded"]: graded / total,
        OBJECTIVES["effective"]: with_advantage / total,
        "sweep/rate_median": statistics.median(rates),
        "sweep/rate_spread": float(high - low),
        "sweep/s_per_step": statistics.median(seconds),
        "sweep/tokens_per_s": tokens * graded / total,
        "sweep/guidelines_truncated": mean("guideline/truncated"),
        "sweep/solutions_truncated": mean("solution/truncated"),
        "sweep/groups_with_advantage": mean("reward/mixed_groups"),
        "sweep/accuracy": mean(f"reward/{grader}_accuracy"),
        "sweep/ungraded": sum(step.get("reward/ungraded", 0.0) for step in measured),
        "sweep/measured_steps": float(len(measured)),
    }
    truncated = max(metrics["sweep/guidelines_truncated"], metrics["sweep/solutions_truncated"])
    return Measured(metrics[OBJECTIVES[objective]], truncated, {**metrics, "sweep/truncated": truncated})


def rate(step: Step, objective: str) -> float:
    """Return one step's objective, in rollouts a second."""
    share = step["reward/mixed_groups"] if objective == "effective" else 1.0
    return step["reward/graded"] * share / step[WALL]


def slower_than_median(value: float, others: Sequence[float], at_least: int = 4) -> bool:
    """Return whether `value` is below the median of at least `at_least` `others` (Golovin et al. 2017).

    `others` must be trials within the truncation limit: a trial that truncates every text is fast.
    """
    return len(others) >= at_least and value < statistics.median(others)
