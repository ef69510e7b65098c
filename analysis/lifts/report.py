"""The terminal output and the JSON of a measurement of `lift.py`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.lifts.arms import DESCRIBED, NONE
from analysis.lifts.data import Problems
from analysis.lifts.stats import Arm, Lift, Pair, counted, examples
from analysis.stats.intervals import Estimate
from guidelines_core.reward.repeated import repeated

ASKED = ("problem_id", "question", "gold")
"""The fields of an example besides guidelines and solutions."""

MOST = 0.5
"""The share of guidelines that are the same for several problems above which a sentence says so."""

LINE = 100
"""How many characters of such a guideline are shown."""

EXAMPLES = 5
"""Problems helped and harmed that are shown of each comparison."""


@dataclass(frozen=True)
class Result:
    """A measurement on one set of problems.

    Attributes:
        run, run_id: the run's name and id.
        step: the trained planner's checkpoint, None without one.
        problems: the measured problems.
        temperatures: the planner's and the solver's sampling.
        found: the figures.
        rows: every graded row.
    """

    run: str
    run_id: str
    step: int | None
    problems: Problems
    temperatures: tuple[float, float]
    found: Lift
    rows: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """Return the result with examples as plain values for JSON; shares of 1, NaN as None."""
        pairs = [
            {
                **dataclasses.asdict(pair),
                **{
                    name: examples(self.rows, pair, ids, EXAMPLES)
                    for name, ids in (("helped_examples", pair.helped), ("harmed_examples", pair.harmed))
                },
            }
            for pair in self.found.pairs
        ]
        answer = {
            "run": self.run,
            "run_id": self.run_id,
            "checkpoint": self.step,
            "data": self.problems.source,
            "left_out_of_data": self.problems.left_out,
            "temperatures": {"planner": self.temperatures[0], "solver": self.temperatures[1]},
            **dataclasses.asdict(self.found),
            "pairs": pairs,
        }
        found: dict[str, Any] = _without_nan(answer)
        return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def percent(estimate: Estimate, sign: bool = False) -> str:
    """Return a share with its interval in percent, "" where there is none."""
    form = "+.1f" if sign else ".1f"
    if estimate.value != estimate.value:
        return ""
    return f"{100 * estimate.value:{form}} [{100 * estimate.low:{form}}, {100 * estimate.high:{form}}]"


def verdict(pair: Pair) -> str:
    """Return a comparison in one sentence."""
    difference = pair.paired.difference
    if difference.n == 0:
        return f"{pair.solver}: no problem counts, so nothing is known of {DESCRIBED[pair.better]}."
    if difference.low > 0:
        word = "helps"
    elif difference.high < 0:
        word = "harms"
    else:
        word = "makes no difference that can be told from chance"
    p = "" if pair.paired.p_value is None else f", p = {pair.paired.p_value:.3g}"
    return (
        f"{pair.solver}: {described(pair)} {word}: "
        f"{percent(difference, sign=True)} points{p}; {len(pair.helped)} helped, {len(pair.harmed)} harmed "
        f"of {difference.n} problems."
    )


def conclusions(result: Result) -> list[str]:
    """Return what was found, a sentence each: the comparisons, and planners that repeat themselves."""
    return [*map(verdict, result.found.pairs), *same_for_several(result.rows)]


def same_for_several(rows: pd.DataFrame) -> list[str]:
    """Return a sentence on each planner most of whose guidelines are the same for several problems."""
    sentences = []
    given = counted(rows[rows["kind"] != NONE]).drop_duplicates(["kind", "problem_id", "sample"])
    for kind, of_kind in given.groupby("kind"):
        if (share := repeated(of_kind)) > MOST:
            text, count = next(iter(of_kind["guideline"].str.strip().value_counts().items()))
            sentences.append(
                f"{DESCRIBED[str(kind)].capitalize()} guidelines repeat themselves: {share:.0%} are also those of "
                f"another problem, {count} of {len(of_kind)} are “{shortened(str(text))}”."
            )
    return sentences


def shortened(text: str) -> str:
    """Return a model's text on one line of at most `LINE` characters."""
    line = readable(text)
    return line if len(line) <= LINE else f"{line[:LINE]} …"


def described(pair: Pair) -> str:
    """Return the two sides of a comparison, in words."""
    base = "none" if pair.base == NONE else DESCRIBED[pair.base]
    return f"{DESCRIBED[pair.better]} guideline instead of {base}"


def show(result: Result, console: Console) -> None:
    """Print the result: the answer in sentences, the arms, the comparisons, an example of each kind."""
    found = result.found
    trained = "" if result.step is None else f", planner of step {result.step}"
    measured = f" on {result.problems.source}{trained}"
    console.print(Text.assemble((result.run, "bold"), measured), highlight=False, soft_wrap=True)
    for note in notes(result):
        console.print(f"note: {note}", style="dim", highlight=False, soft_wrap=True)
    for sentence in conclusions(result):
        console.print(f"• {sentence}", highlight=False, soft_wrap=True)
    console.print(arm_table(found))
    console.print(pair_table(found))
    for pair in [pair for pair in found.pairs if pair.base == NONE][-1:]:
        for word, ids in (("helped", pair.helped), ("harmed", pair.harmed)):
            for example in examples(result.rows, pair, ids, 1):
                console.print(f"{word} by {described(pair)}:", style="bold")
                for name, text in example.items():
                    if name != "problem_id":
                        console.print(f"  {name}: {readable(text)}", highlight=False)


def readable(text: str) -> str:
    """Return a model's text on one line, without control characters."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))


def notes(result: Result) -> list[str]:
    """Return the omitted problems and the sampling, a sentence each."""
    found, sentences = result.found, []
    if result.problems.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in result.problems.left_out.items())
        sentences.append(f"Rows of the data that are no problem to measure on: {reasons}.")
    if found.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        sentences.append(f"Problems without a verdict in some arm, which do not count: {reasons}.")
    planner, solver = (f"{temperature:g}" for temperature in result.temperatures)
    plural = "s" if found.samples > 1 else ""
    sentences.append(
        f"{found.problems} problems, {found.samples} sample{plural}, temperatures {planner} (planner) and {solver} "
        "(solver); intervals of 95 % from the paired bootstrap over problems."
    )
    return sentences


def arm_table(found: Lift) -> Table:
    """Return the arms' accuracies, leaks and tokens."""
    table = Table("solver", "guideline", title="arms (shares in %)", title_justify="left")
    ks = sorted({k for arm in found.arms for k in arm.pass_at} - {1})
    for column in ("accuracy", *(f"pass@{k}" for k in ks), "leaks", "without leaks", "same", "tokens", "cut"):
        table.add_column(column, justify="right")
    for arm in found.arms:
        table.add_row(*arm_cells(arm, ks))
    return _without_solver(table, found)


def arm_cells(arm: Arm, ks: list[int]) -> list[str]:
    """Return an arm's cells; same: guidelines of several problems; tokens: the guideline's and the solution's."""
    given = arm.kind != NONE
    return [
        arm.solver,
        arm.kind,
        percent(arm.accuracy),
        *(f"{100 * arm.pass_at[k]:.1f}" if k in arm.pass_at else "" for k in ks),
        f"{100 * arm.leaks:.1f}" if given else "",
        percent(arm.without_leaks) if given else "",
        f"{100 * arm.repeated:.1f}" if given else "",
        f"{arm.guideline_tokens:.0f} + {arm.solution_tokens:.0f}",
        f"{100 * arm.solution_cut:.0f}",
    ]


PAIR_COLUMNS = ("better by, points", "p", "helped", "harmed", "without leaks")


def pair_table(found: Lift) -> Table:
    """Return the paired comparisons."""
    table = Table("solver", "guideline", title="on the same problems", title_justify="left")
    for column in PAIR_COLUMNS:
        table.add_column(column, justify="right")
    for pair in found.pairs:
        table.add_row(*pair_cells(pair))
    return _without_solver(table, found)


def _without_solver(table: Table, found: Lift) -> Table:
    """Leave out the solver's column if there is only one."""
    if len({arm.solver for arm in found.arms}) < 2:
        table.columns.pop(0)
    return table


def pair_cells(pair: Pair) -> list[str]:
    """Return a comparison's cells; p is McNemar's exact test's."""
    return [
        pair.solver,
        f"{pair.better} over {pair.base}",
        percent(pair.paired.difference, sign=True),
        "" if pair.paired.p_value is None else f"{pair.paired.p_value:.3g}",
        str(len(pair.helped)),
        str(len(pair.harmed)),
        percent(pair.without_leaks.difference, sign=True),
    ]
