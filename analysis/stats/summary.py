"""A run's figures and curves: results, hours, GPUs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages.page import grid, legend, stroke
from analysis.pages.tables import number
from analysis.stats.intervals import share_interval, smooth
from analysis.stats.signal import METRICS as SIGNAL
from analysis.stats.verdicts import TITLES
from guidelines_core.config.layout import gpus_needed

METRICS = {
    "reward/mean": "reward (own grader)",
    **{f"reward/{grader}_accuracy": f"accuracy in training, {title}" for grader, title in TITLES.items()},
    "reward/uplift": "accuracy gain by guidelines, training",
    "validation/accuracy": "validation accuracy (own grader)",
    "validation/uplift": "accuracy gain by guidelines, validation",
    "reward/mixed_groups": "groups with mixed rewards",
    "reward/ungraded": "rollouts without verdict, a step",
    "guideline/leak": "guidelines that give the gold away",
    "guideline/repeated": "guidelines that are the same for several problems",
    "signal/guideline_share": "share of the reward's variance by the guideline",
    "guideline/tokens": "guideline, tokens",
    "guideline/truncated": "guidelines truncated",
    "solution/tokens": "solution, tokens",
    "solution/truncated": "solutions truncated",
    "actor/kl_loss": "KL to the reference, loss",
    "actor/reward_kl_penalty": "KL to the reference, in the reward",
    "actor/entropy": "policy's entropy",
    "timing_s/step": "seconds a step",
}
"""The metrics that runs are compared by, and their names in words."""

CURVES = (
    "reward/mean", "reward/math_verify_accuracy", "reward/uplift", "validation/accuracy", "guideline/leak",
    "guideline/repeated", "guideline/tokens", "solution/tokens", "solution/truncated", "actor/kl_loss", "actor/entropy",
    "timing_s/step",
)  # fmt: skip
"""The metrics that are drawn."""

POINTS = 100
"""Points of a line, at most twice as many; more only enlarge the page."""

NEEDED = (*METRICS, *SIGNAL, "validation/problems")
STEPS, HOURS, GPU_HOURS = "steps", "hours in steps", "GPU-hours in steps"


def figures(history: pd.DataFrame, gpus: int | None) -> pd.DataFrame:
    """Return a run's figures: columns `final` and `mean`, a row each for steps, hours, GPU-hours and `METRICS`.

    Args:
        history: the run's metrics over its steps. Final is the mean of the last tenth of a metric's values, at least
            one; NaN where the run has none.
        gpus: how many it used; None if unknown.
    """
    seconds = history["timing_s/step"].dropna() if "timing_s/step" in history else pd.Series(dtype=float)
    hours = seconds.sum() / 3600
    rows = {
        STEPS: (float(len(seconds)), np.nan),
        HOURS: (hours, np.nan),
        GPU_HOURS: (np.nan if gpus is None else hours * gpus, np.nan),
    }
    for metric in METRICS:
        values = history[metric].dropna() if metric in history else pd.Series(dtype=float)
        rows[metric] = (values.tail(max(1, len(values) // 10)).mean(), values.mean())
    table: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index", columns=["final", "mean"])
    return table


def in_words(all_figures: Mapping[str, pd.DataFrame], status: Mapping[str, str]) -> pd.DataFrame:
    """Return the runs' figures side by side as text, `final (mean)`; rows that no run has are left out."""
    columns = {}
    for name, own in all_figures.items():
        cells = {"status": status[name]}
        for metric, row in own.iterrows():
            label = METRICS.get(str(metric), str(metric))
            mean = f" ({number(row['mean'], 3)})" if not np.isnan(row["mean"]) else ""
            cells[label] = number(row["final"], 3) + mean
        columns[name] = cells
    table: pd.DataFrame = pd.DataFrame(columns)
    table = table[(table != "").any(axis=1)]
    table.index.name = "final (mean of all steps)"
    return table


def gpus_of(config: Mapping[str, Any]) -> int | None:
    """Return how many GPUs a run's configuration asks for, 0 on a CPU; None if it does not say."""
    # `gpus_needed` reads attributes; OmegaConf takes 0.1 s for a whole configuration.
    recorded: Any = json.loads(json.dumps(config), object_hook=lambda keys: SimpleNamespace(**keys))
    try:
        return 0 if recorded.trainer.device == "cpu" else gpus_needed(recorded)
    except (AttributeError, TypeError):  # a run without configuration, or of a version with other keys
        return None


def curves(histories: Mapping[str, pd.DataFrame], metrics: Sequence[str] = CURVES) -> Figure | None:
    """Return the metrics' curves over the steps, a line a run; None if no run has any of them.

    The line is the running mean and the band its 95 % interval (`intervals.smooth`); with few runs, a faint dot is a
    step. Accuracy in validation is joined as it is, with Wilson's interval of so many problems.
    """
    present = [metric for metric in metrics if any(metric in history for history in histories.values())]
    if not present:
        return None
    figure, axes = grid(len(present))
    for plot, metric in zip(axes, present, strict=True):
        for index, (name, history) in enumerate(histories.items()):
            if metric in history:
                _draw(plot, history, metric, name, stroke(index), dots=len(histories) <= 3)
        plot.set_title(METRICS.get(metric, metric))
        plot.set_xlabel("step")
        # Only one step of a validation: without the minimum there would be ticks between steps.
        plot.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    most = max(axes, key=lambda plot: len(plot.get_legend_handles_labels()[0]))
    legend(figure, most)
    return figure


def _draw(plot: Any, history: pd.DataFrame, metric: str, name: str, style: dict[str, str], dots: bool) -> None:
    values = history[metric].dropna()
    if metric == "validation/accuracy":
        ends = [share_interval(share, int(n)) for share, n in zip(values, _problems(history, values), strict=True)]
        line = pd.DataFrame(ends, columns=["low", "high"], index=values.index).assign(mean=values)
    else:
        line = smooth(values)
        line = line.iloc[:: max(1, len(line) // POINTS)]
        if dots:
            plot.plot(values.index, values, ".", markersize=2, alpha=0.25, color=style["color"])
    marker = "o" if len(values) < 12 else None
    plot.plot(line.index, line["mean"], label=name, marker=marker, markersize=3, **style)
    plot.fill_between(
        line.index, line["low"], line["high"], color=style["color"], alpha=0.15 if dots else 0.06, linewidth=0
    )


def _problems(history: pd.DataFrame, values: pd.Series[float]) -> pd.Series[float]:
    count = history["validation/problems"] if "validation/problems" in history else pd.Series(dtype=float)
    return count.reindex(values.index).fillna(0)
