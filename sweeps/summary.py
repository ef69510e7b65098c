"""Reports a study: the best point, its gain over the reference, the axes' importance, and how trials ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps.attributes import CAUSE, INTERRUPTED, RATE, REFERENCE, REPEATED, TRUNCATED
from sweeps.cost import in_words, of_study
from sweeps.plots import draw, importances
from sweeps.record import Record
from sweeps.space import Space
from sweeps.study import Goal, best, comparable, counted, machines, reference, within_limit


def state(trial: FrozenTrial, limit: float) -> str:
    """Return a trial's outcome in a few words, or the cause of its failure."""
    if INTERRUPTED in trial.user_attrs:
        return "interrupted"
    if CAUSE in trial.user_attrs:
        return str(trial.user_attrs[CAUSE]).split(":")[0]
    if trial.state == TrialState.COMPLETE:
        return ("reference" if REFERENCE in trial.user_attrs else "done") + (
            "" if within_limit(trial, limit) else ", truncates too much"
        )
    return "slow" if trial.state == TrialState.PRUNED else trial.state.name.lower()


def point_text(point: Mapping[str, Any]) -> str:
    """Return a point's values in one line."""
    return " ".join(f"{axis.rsplit('.', 1)[-1]}={value}" for axis, value in point.items())


def closing(study: Study, space: Space, goal: Goal, record: Record, folder: Path, console: Console) -> dict[str, float]:
    """Print the summary, draw the plots, and log the plots and a table of all trials to the study's MLflow run.

    Returns:
        The best trial's metrics by their MLflow names, for the study's run; empty if there is no best trial.
    """
    summary = summarise(study, space, goal)
    table = Table(title="What the sweep found", show_header=False, title_justify="left")
    for key, text in summary.items():
        table.add_row(key, text)
    console.print(table)
    folder.mkdir(parents=True, exist_ok=True)
    trials = folder / "trials.csv"
    study.trials_dataframe().to_csv(trials, index=False)
    top = best(study)
    files = [trials, *(draw(comparable(study), summary, folder / "plots") if top else [])]
    for file in files:
        record.client.log_artifact(record.parent, str(file), "plots")
    if top is None:
        return {}
    console.print(Text.assemble(f"Plots: {files[-1]}\nAll trials: ", ("make ui", "bold")), soft_wrap=True)
    return {name: value for name, value in top.user_attrs.items() if name.startswith("sweep/")}


def summarise(study: Study, space: Space, goal: Goal) -> dict[str, str]:
    """Return a study's results in words: outcomes of trials, best point, gain, importance of each axis."""
    trials = study.get_trials(deepcopy=False)
    top, first = best(study), reference(study)
    found = {"trials": outcomes(counted(trials), goal.limit)}
    if repeated := [trial for trial in trials if REPEATED in trial.user_attrs]:
        found["tried again"] = outcomes(repeated, goal.limit)
    if cost := of_study(trials):
        found["cost of its trials"] = in_words(cost)
    if len(measured_on := machines(trials)) > 1:
        found["machines"] = machines_text(measured_on)
    if top is None:
        found["best"] = without_result(study, goal)
    else:
        found["best"] = f"trial {top.number}: {point_text(top.params)}"
        found["its throughput"] = figures(top)
    if top is not None and first is not None:
        found["reference"] = f"{point_text(space.reference)}"
        found["its throughput "] = figures(first)
        found["gain"] = f"{top.user_attrs[RATE] / first.user_attrs[RATE]:.2f} times the reference"
    if goal.pareto:
        front = sorted(comparable(study).best_trials, key=lambda trial: -trial.values[0])
        found |= {f"on the front, {number}": f"{point_text(trial.params)}: {trial.values[0]:.3g} rollouts/s, "
                  f"{trial.values[1]:.1%} cut" for number, trial in enumerate(front, 1)}  # fmt: skip
    found |= {f"importance of {axis}": f"{share:.0%}" for axis, share in importances(comparable(study)).items()}
    return found


def outcomes(trials: Sequence[FrozenTrial], limit: float) -> str:
    """Return the number of trials with each outcome, as text."""
    counts = Counter(state(trial, limit) for trial in trials)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def machines_text(measured_on: Mapping[str, int]) -> str:
    """Return a sentence about trials of different machines: their numbers, and which ones are ranked."""
    named = "; ".join(f"{count} on {machine or 'an unknown one'}" for machine, count in measured_on.items())
    return f"rates are comparable only within each machine: {named}. All below is of the first one"


def without_result(study: Study, goal: Goal) -> str:
    """Return the reason why a study has no best trial: the last failure, or too many truncated texts."""
    trials = counted(study.get_trials(deepcopy=False))
    said = outcomes(trials, goal.limit)
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        return f"no trial truncated {goal.limit:.0%} or less ({said}): raise --truncated, or the lengths of the space"
    causes = [str(trial.user_attrs[CAUSE]) for trial in trials if CAUSE in trial.user_attrs]
    return f"no trial has a result ({said})" + (f"; the last failure: {causes[-1]}" if causes else "")


def figures(trial: FrozenTrial) -> str:
    """Return a measured trial's metrics in one line."""
    seen = trial.user_attrs
    return (
        f"{seen[RATE]:.3g} rollouts/s (steps: median {seen['sweep/rate_median']:.3g}, "
        f"spread {seen['sweep/rate_spread']:.2g}), {seen['sweep/s_per_step']:.3g} s a step, "
        f"{seen['sweep/tokens_per_s']:.0f} tokens/s, {seen[TRUNCATED]:.1%} cut, "
        f"{seen['sweep/groups_with_advantage']:.0%} of groups with mixed rewards, accuracy {seen['sweep/accuracy']:.3f}"
    )
