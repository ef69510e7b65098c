"""A step's metrics: of its graded rollouts and of the reward workers' counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.reward.repeated import repeated
from guidelines_core.reward.signal import signal


def count_metrics(counts: Counter[str]) -> dict[str, float]:
    """Return the metrics of the reward workers' `counts` (`score.Scorer.take_counts`), summed over the workers."""
    ungraded = {name: count for name, count in counts.items() if name.startswith("ungraded_")}
    asked = counts["asked"] + counts["cache_hits"]
    return {
        "reward/ungraded": float(sum(ungraded.values())),
        **{f"reward/{name}": float(count) for name, count in ungraded.items()},
        "solver/asked": float(counts["asked"]),
        "solver/retries": float(counts["retries"]),
        "solver/cache_hits": counts["cache_hits"] / asked if asked else 0.0,
        "solver/most_in_flight": float(counts["most_in_flight"]),
    }


def reward_metrics(rows: pd.DataFrame) -> dict[str, float]:
    """Return one step's metrics of its graded `rows`: verdicts, lengths (tokens), truncation, latencies (s).

    With k >= 2 solutions to a guideline also `signal/…`, see `signal.py`.

    Args:
        rows: a row for each solution, with the columns of `GradedRow`.
    """
    rollouts = rows[rows["sample"] == 0]
    metrics = {
        "reward/mean": rollouts["score"].mean(),
        **{f"reward/{grader}_accuracy": rows[f"{grader}_correct"].mean() for grader in GRADERS},
        "reward/mixed_groups": (rollouts.groupby("group")["score"].nunique() > 1).mean(),
        "reward/graded": len(rollouts),
        "reward/grader_s": rollouts["grader_s"].mean(),
        "guideline/tokens": rollouts["guideline_tokens"].mean(),
        "guideline/truncated": rollouts["guideline_truncated"].mean(),
        "guideline/leak": rollouts["guideline_leak"].mean(),
        "guideline/repeated": repeated(rollouts),
        "solution/tokens": rows["solution_tokens"].mean(),
        "solution/truncated": rows["solution_truncated"].mean(),
        "solver/latency_p50_s": np.quantile(rollouts["solver_s"], 0.5),
        "solver/latency_p95_s": np.quantile(rollouts["solver_s"], 0.95),
    }
    metrics.update(uplift("reward", rows))
    reasons = rows["reason"].value_counts(normalize=True)
    metrics.update({f"verdict/{reason}": share for reason, share in reasons.items()})
    if (found := signal(rows)) is not None:
        metrics.update(found.metrics())
    return {name: float(value) for name, value in metrics.items()}


def uplift(prefix: str, rows: pd.DataFrame) -> dict[str, float]:
    """Return `PREFIX/uplift`: accuracy with guidelines minus that without on the same problems, if known.

    The difference does not depend on how hard the step's problems are. `baseline` is the accuracy without a guideline.
    """
    known = rows[rows["baseline"].notna()]
    return {f"{prefix}/uplift": float((known["acc"] - known["baseline"]).mean())} if len(known) else {}
