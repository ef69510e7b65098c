"""Draws a study's plots as PNG files, and one self-contained HTML page."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweeps.attributes import RATE

RATES = "rollouts/s"
EVALUATOR = partial(FanovaImportanceEvaluator, seed=0)
"""Computes shares of the throughput's variance (Hutter et al. 2014)."""


def importances(study: Study) -> dict[str, float]:
    """Return each axis's share of the throughput's variance, the largest first; empty with too few trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = {axis for axis in complete[0].params if len({t.params[axis] for t in complete}) > 1} if complete else set()
    if len({trial.user_attrs[RATE] for trial in complete}) < 3 or not varied:
        return {}
    found = get_param_importances(study, evaluator=EVALUATOR(), params=sorted(varied), target=_target(study))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def draw(study: Study, summary: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the plots of a study to `folder` and return the files; the page shows `summary` above the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    files: list[Path] = []
    parts: list[str] = []
    for name, arguments in _plots(study).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            axes = getattr(optuna.visualization.matplotlib, f"plot_{name}")(study, **arguments)
            figure = getattr(optuna.visualization, f"plot_{name}")(study, **arguments)
        first = axes if hasattr(axes, "figure") else axes.ravel()[0]
        first.figure.set_size_inches(9 if hasattr(axes, "figure") else 4.5 * len(axes), 5)
        files.append(folder / f"{name}.png")
        first.figure.savefig(files[-1], dpi=120, bbox_inches="tight")
        mpl.pyplot.close(first.figure)
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts))
    rows = "".join(f"<tr><td>{html.escape(key)}</td><td>{html.escape(text)}</td></tr>" for key, text in summary.items())
    page = folder / "study.html"
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(study.study_name)}</title>"
        f"<h1>{html.escape(study.study_name)}</h1><table>{rows}</table>{''.join(parts)}",
        encoding="utf-8",
    )
    return [*files, page]


def _plots(study: Study) -> dict[str, dict[str, Any]]:
    """Return the plots that the study has enough trials for, by Optuna's name, with their arguments."""
    one: dict[str, Any] = {"target": _target(study), "target_name": RATES} if len(study.directions) > 1 else {}
    named = {**one, "target_name": RATES}
    found: dict[str, dict[str, Any]] = {"optimization_history": named, "slice": named}
    if importances(study):
        found["param_importances"] = {**named, "evaluator": EVALUATOR()}
    if len(study.directions) > 1:
        found["pareto_front"] = {"target_names": [RATES, "truncated"]}
    return found


def _target(study: Study) -> Callable[[FrozenTrial], float] | None:
    """Return the function that reads a trial's throughput; None for a study with one objective."""
    return (lambda trial: float(trial.values[0])) if len(study.directions) > 1 else None
