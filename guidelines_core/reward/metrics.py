"""A step's metrics of its graded rollouts and of what the reward workers counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd


def count_metrics(counts: Counter[str]) -> dict[str, float]:
    """Return the metrics of the reward workers' `counts` (see `reward.take_counts`), summed over the workers."""
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
    """Return one step's metrics of its graded `rows`: verdicts, lengths (tokens), truncation, latencies (s)."""
    groups = rows.groupby("group")["score"]
    metrics = {
        "reward/mean": rows["score"].mean(),
        "reward/math_verify_accuracy": rows["math_verify_correct"].mean(),
        "reward/exact_match_accuracy": rows["exact_match_correct"].mean(),
        "reward/mixed_groups": (groups.nunique() > 1).mean(),
        "reward/graded": len(rows),
        "reward/grader_s": rows["grader_s"].mean(),
        "guideline/tokens": rows["guideline_tokens"].mean(),
        "guideline/truncated": rows["guideline_truncated"].mean(),
        "guideline/leak": rows["guideline_leak"].mean(),
        "solution/tokens": rows["solution_tokens"].mean(),
        "solution/truncated": rows["solution_truncated"].mean(),
        "solver/latency_p50_s": np.quantile(rows["solver_s"], 0.5),
        "solver/latency_p95_s": np.quantile(rows["solver_s"], 0.95),
    }
    reasons = rows["reason"].value_counts(normalize=True)
    metrics.update({f"verdict/{reason}": share for reason, share in reasons.items()})
    return {name: float(value) for name, value in metrics.items()}
