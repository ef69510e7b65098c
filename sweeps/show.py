"""A sweep's output on the terminal: a live table while it runs, then the best point, its gain and what mattered."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from guidelines_core.launch.console import duration
from sweeps.objective import Measured
from sweeps.plots import draw, importances
from sweeps.record import Record
from sweeps.sampler import CAUSE, RATE, REFERENCE, TRUNCATED
from sweeps.space import Space
from sweeps.study import INTERRUPTED, Goal, TrialRequest, best, counted, reference, within_limit
from sweeps.trial import Trials

SHOWN = 15
"""Rows of the live table."""


class Board:
    """The live table of a study; on no terminal, a line for each trial instead."""

    def __init__(self, study: Study, space: Space, goal: Goal, trials: Trials, total: int, console: Console) -> None:
        self._study, self._space, self._goal, self._trials, self._total = study, space, goal, trials, total
        self._console = console
        self._seconds: list[float] = []
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=1, transient=True)

    def __enter__(self) -> Board:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """Show the table as it stands."""
        self._live.stop()
        self._console.print(self.table())

    def measure(self, request: TrialRequest) -> Measured:
        """Measure a trial, and show how it ended."""
        began = time.monotonic()
        try:
            measured = self._trials.measure(request)
        except Exception as error:
            self._say(f"{request.name}  {words(request.point)}  {error}")
            raise
        finally:
            self._seconds.append(time.monotonic() - began)
        self._say(
            f"{request.name}  {words(request.point)}  {measured.value:.3g} rollouts/s, {measured.truncated:.0%} cut"
        )
        return measured

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """Return the newest trials, their points, rates and states, the best one, and the time that is left."""
        trials = counted(self._study.get_trials(deepcopy=False))
        done = sum(trial.state.is_finished() for trial in trials)
        top = best(self._study)
        left = (self._total - done) * statistics.median(self._seconds) if self._seconds else None
        table = Table(
            title=f"{done} of {self._total} trials" + (f" · {duration(left)} left" if left is not None else ""),
            caption=f"best: {words(top.params)}, {top.user_attrs[RATE]:.3g} rollouts/s" if top else None,
        )
        for column in ("trial", *(axis.rsplit(".", 1)[-1] for axis in self._space.axes), "rollouts/s", "cut", "state"):
            table.add_column(column, justify="right")
        for trial in trials[-SHOWN:]:
            values = (str(trial.params.get(axis, "")) for axis in self._space.axes)
            figures = (f"{trial.user_attrs[name]:{form}}" if name in trial.user_attrs else "" for name, form in
                       ((RATE, ".3g"), (TRUNCATED, ".0%")))  # fmt: skip
            style = "bold green" if top is not None and trial.number == top.number else None
            table.add_row(str(trial.number), *values, *figures, state(trial, self._goal.limit), style=style)
        return table


def state(trial: FrozenTrial, limit: float) -> str:
    """Return a trial's outcome: one word, or the cause of its failure."""
    if INTERRUPTED in trial.user_attrs:
        return "interrupted"
    if CAUSE in trial.user_attrs:
        return str(trial.user_attrs[CAUSE]).split(":")[0]
    if trial.state == TrialState.COMPLETE:
        return ("reference" if REFERENCE in trial.user_attrs else "done") + (
            "" if within_limit(trial, limit) else ", cuts too much"
        )
    return "slow" if trial.state == TrialState.PRUNED else trial.state.name.lower()


def words(point: Mapping[str, Any]) -> str:
    """Return a point in one line."""
    return " ".join(f"{axis.rsplit('.', 1)[-1]}={value}" for axis, value in point.items())


def closing(study: Study, space: Space, goal: Goal, record: Record, folder: Path, console: Console) -> dict[str, float]:
    """Print the best point, its gain over the reference and what mattered; draw the plots, keep them and all trials.

    Returns:
        The best trial's figures by their MLflow names, for the study's own run.
    """
    summary = summarise(study, space, goal)
    table = Table(title="What the sweep found", show_header=False, title_justify="left")
    for key, text in summary.items():
        table.add_row(key, text)
    console.print(table)
    trials = folder / "trials.csv"
    study.trials_dataframe().to_csv(trials, index=False)
    top = best(study)
    files = [trials, *(draw(study, summary, folder / "plots") if top else [])]
    for file in files:
        record.client.log_artifact(record.parent, str(file), "plots")
    if top is None:
        return {}
    console.print(f"Plots: {files[-1]}\nAll trials: [bold]make ui[/]", soft_wrap=True)
    return {name: value for name, value in top.user_attrs.items() if name.startswith("sweep/")}


def summarise(study: Study, space: Space, goal: Goal) -> dict[str, str]:
    """Return what a study found, in words: best point, gain, importance of each axis, failures."""
    trials = counted(study.get_trials(deepcopy=False))
    top, first = best(study), reference(study)
    causes = Counter(state(trial, goal.limit) for trial in trials)
    found = {"trials": ", ".join(f"{count} {name}" for name, count in causes.most_common())}
    if top is None:
        return {**found, "best": f"no trial truncated {goal.limit:.0%} or less"}
    found["best"] = f"trial {top.number}: {words(top.params)}"
    found["its throughput"] = figures(top)
    if first is not None:
        found["reference"] = f"{words(space.reference)}"
        found["its throughput "] = figures(first)
        found["gain"] = f"{top.user_attrs[RATE] / first.user_attrs[RATE]:.2f} times the reference"
    if goal.pareto:
        front = sorted(study.best_trials, key=lambda trial: -trial.values[0])
        found |= {f"on the front, {number}": f"{words(trial.params)}: {trial.values[0]:.3g} rollouts/s, "
                  f"{trial.values[1]:.1%} cut" for number, trial in enumerate(front, 1)}  # fmt: skip
    found |= {f"importance of {axis}": f"{share:.0%}" for axis, share in importances(study).items()}
    return found


def figures(trial: FrozenTrial) -> str:
    """Return a measured trial's figures in one line."""
    seen = trial.user_attrs
    return (
        f"{seen[RATE]:.3g} rollouts/s (steps: median {seen['sweep/rate_median']:.3g}, "
        f"spread {seen['sweep/rate_spread']:.2g}), {seen['sweep/s_per_step']:.3g} s a step, "
        f"{seen['sweep/tokens_per_s']:.0f} tokens/s, {seen[TRUNCATED]:.1%} cut, "
        f"{seen['sweep/groups_with_advantage']:.0%} of groups teach, accuracy {seen['sweep/accuracy']:.3f}"
    )
