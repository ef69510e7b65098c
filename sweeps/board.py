"""Shows a running study on the terminal: a live table, or a line for each trial."""

from __future__ import annotations

import statistics
import time
from types import TracebackType

from optuna.study import Study
from rich.console import Console
from rich.live import Live
from rich.table import Table

from guidelines_core.launch.console import duration
from sweeps.attributes import RATE, TRUNCATED
from sweeps.cost import in_words, of_trial
from sweeps.loop import TrialRequest
from sweeps.objective import Measured
from sweeps.space import Space
from sweeps.study import Goal, best, counted
from sweeps.summary import point_text, state
from sweeps.trial import Trials

SHOWN = 15
"""Rows of the live table."""


class Board:
    """The live table of a study; if the output is not a terminal, a line for each trial."""

    def __init__(self, study: Study, space: Space, goal: Goal, trials: Trials, total: int, console: Console) -> None:
        self._study, self._space, self._goal, self._trials, self._total = study, space, goal, trials, total
        self._console = console
        self._seconds: list[float] = []
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=1, transient=True)

    def __enter__(self) -> Board:
        """Start the live table."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """Stop the live table and print it once more."""
        self._live.stop()
        self._console.print(self.table())

    def measure(self, request: TrialRequest) -> Measured:
        """Measure a trial and print its result.

        Raises:
            TrialFailedError, TrialTooSlowError: see `Trials.measure`.
        """
        began = time.monotonic()
        try:
            measured = self._trials.measure(request)
        except Exception as error:
            self._print_line(f"{request.name}  {point_text(request.point)}  {error}")
            raise
        finally:
            self._seconds.append(time.monotonic() - began)
        result = f"{measured.value:.3g} rollouts/s, {measured.truncated:.0%} cut"
        self._print_line(f"{request.name}  {point_text(request.point)}  {result}")
        return measured

    def _print_line(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """Return the newest trials, their points, rates and states, the best one, and the time that is left."""
        trials = counted(self._study.get_trials(deepcopy=False))
        done = sum(trial.state.is_finished() for trial in trials)
        top = best(self._study)
        left = (self._total - done) * statistics.median(self._seconds) if self._seconds else None
        table = Table(
            title=f"{done} of {self._total} trials" + (f" · {duration(left)} left" if left is not None else ""),
            caption=f"best: {point_text(top.params)}, {top.user_attrs[RATE]:.3g} rollouts/s" if top else None,
        )
        axes = (axis.rsplit(".", 1)[-1] for axis in self._space.axes)
        for column in ("trial", *axes, "rollouts/s", "cut", "cost", "state"):
            table.add_column(column, justify="right")
        for trial in trials[-SHOWN:]:
            values = (str(trial.params.get(axis, "")) for axis in self._space.axes)
            figures = (f"{trial.user_attrs[name]:{form}}" if name in trial.user_attrs else "" for name, form in
                       ((RATE, ".3g"), (TRUNCATED, ".0%")))  # fmt: skip
            cost = in_words(of_trial(trial))
            style = "bold green" if top is not None and trial.number == top.number else None
            table.add_row(str(trial.number), *values, *figures, cost, state(trial, self._goal.limit), style=style)
        return table
