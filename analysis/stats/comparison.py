"""Compares runs: settings, results, and whether one is better on the same validation problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.pages.tables import interval, number, records
from analysis.stats.intervals import LEVEL, compare_paired, holm, mean_interval
from analysis.stats.summary import NEEDED, figures, gpus_of
from analysis.stats.verdicts import ALL, MATH_VERIFY, TITLES, Judged, by_problem, judge
from analysis.store.differences import differing
from analysis.store.runs import Run, config, history, labels
from guidelines_core.config.flat import flat
from guidelines_core.grading.pool import GradingPool

FEW = 30
"""The number of problems below which an interval is of little use."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of some runs; tables are by the runs' names.

    Attributes:
        status: of each run.
        grader: the grader of each run's reward, empty if not recorded.
        differences: `differences.differing`.
        histories: metrics over steps.
        figures: `summary.figures`.
        judged: `verdicts.judge`.
        accuracy: a row a run: the last validation's step, problems, accuracy by each grader with its interval.
        pairs: a row for each run but the first: how much better it is than the first (`paired`).
        notes: limits of the tables, a sentence each.
    """

    status: dict[str, str]
    grader: dict[str, str]
    differences: pd.DataFrame
    histories: dict[str, pd.DataFrame]
    figures: dict[str, pd.DataFrame]
    judged: dict[str, Judged]
    accuracy: pd.DataFrame
    pairs: pd.DataFrame
    notes: list[str]

    @property
    def wronged(self) -> pd.DataFrame:
        """The answers that only math-verify calls right: a row for each kind of gold, a text column for each run."""
        columns = {
            name: {kind: _share(row) for kind, row in judged.tally.iterrows()} for name, judged in self.judged.items()
        }
        counted = pd.concat([judged.tally["wronged"] for judged in self.judged.values()]).groupby(level=0).sum()
        kinds = [kind for kind in counted.sort_values(ascending=False, kind="stable").index if kind != ALL]
        table: pd.DataFrame = pd.DataFrame(columns).reindex([*kinds, ALL]).fillna("")
        table.index.name = "kind of the gold"
        return table

    @property
    def examples(self) -> pd.DataFrame:
        """A few answers that only math-verify calls right, at most three for each kind of gold."""
        found = pd.concat([judged.examples for judged in self.judged.values()]).drop_duplicates(["kind", "gold"])
        table: pd.DataFrame = found.groupby("kind").head(3).sort_values("kind").set_index("kind")
        return table

    @property
    def validated(self) -> pd.DataFrame:
        """Each run's final accuracy, intervals in words."""
        columns = {
            grader: [
                interval(row[grader], row[f"{grader}, low"], row[f"{grader}, high"])
                for row in self.accuracy.to_dict("records")
            ]
            for grader in TITLES.values()
        }
        table: pd.DataFrame = self.accuracy[["step", "problems"]].assign(**columns)
        return table

    @property
    def paired(self) -> pd.DataFrame:
        """Each run against the first, intervals in words."""
        rows = self.pairs.to_dict("records")
        table: pd.DataFrame = pd.DataFrame(
            {
                "problems": [row["problems"] for row in rows],
                "difference": [interval(row["difference"], row["low"], row["high"], sign=True) for row in rows],
                "only the first right": [row["only_first"] for row in rows],
                "only this right": [row["only_this"] for row in rows],
                "p": [row["p_holm"] for row in rows],
                "better": [row["better"] for row in rows],
            },
            index=self.pairs.index,
        )
        return table

    def as_json(self) -> dict[str, Any]:
        """Return all tables and sentences as plain values for JSON, without curves."""
        return {
            "answer": answer(self),
            "notes": self.notes,
            "status": self.status,
            "grader": self.grader,
            "differences": records(self.differences),
            "figures": {name: records(table) for name, table in self.figures.items()},
            "accuracy": records(self.accuracy),
            "pairs": records(self.pairs),
            "verdicts": {name: records(judged.tally) for name, judged in self.judged.items()},
            "verdicts_changed": {name: judged.changed for name, judged in self.judged.items()},
            "examples": self.examples.reset_index().to_dict("records"),
        }


def _share(row: pd.Series[float]) -> str:
    of = f"{number(int(row['wronged']))} of {number(int(row['math_verify']))}"
    return f"{of} ({row['wronged_share']:.1%})" if row["math_verify"] else of


def compare(
    runs: Sequence[Run], pool: GradingPool | None = None, progress: Callable[[int], None] = lambda _: None
) -> Comparison:
    """Read and compare the runs; the others are compared with the first."""
    names = labels(runs)
    by_name = dict(zip(names, runs, strict=True))
    configs = {name: config(run) for name, run in by_name.items()}
    histories = {name: history(run, NEEDED) for name, run in by_name.items()}
    judged = {name: judge(run, pool, progress) for name, run in by_name.items()}
    validations = {name: found.validation for name, found in judged.items()}
    return Comparison(
        status={name: run.status for name, run in by_name.items()},
        grader={name: str(flat(own).get("guidelines.grader.name", "")) for name, own in configs.items()},
        differences=differing(runs, names, list(configs.values())),
        histories=histories,
        figures={name: figures(histories[name], gpus_of(configs[name])) for name in names},
        judged=judged,
        accuracy=accuracies(validations),
        pairs=paired(validations),
        notes=notes(by_name, configs, histories, judged),
    )


def accuracies(validations: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return each run's accuracy in its last validation, by each grader, with bootstrap intervals.

    Over the problems that all runs share; over each run's own if they share none.
    """
    shared = by_problem(list(validations.values())).index
    rows = {}
    for name, table in validations.items():
        row: dict[str, Any] = {"step": table["step"].max() if len(table) else None, "problems": 0}
        for grader, title in TITLES.items():
            means = by_problem([table], f"{grader}_correct")[0]
            means = means[means.index.isin(shared)] if len(shared) else means
            found = mean_interval(means.to_numpy())
            row["problems"] = found.n
            row |= {title: found.value, f"{title}, low": found.low, f"{title}, high": found.high}
        rows[name] = row
    result: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index")
    result.index.name = "run"
    return result


def paired(validations: Mapping[str, pd.DataFrame], verdict: str = MATH_VERIFY) -> pd.DataFrame:
    """Compare every run with the first, on the problems that the two share, by one grader for both.

    Returns:
        A row for each other run: problems, difference with its bootstrap interval, the problems that one alone got
        right, McNemar's p-value and the same corrected for the number of comparisons (Holm), and `better`: the better
        run's name, empty where no difference is shown.
    """
    (first, base), *others = validations.items()
    found = {}
    for name, table in others:
        both = by_problem([base, table], verdict)
        found[name] = compare_paired(both[0].to_numpy(), both[1].to_numpy())
    corrected = holm([pair.p_value for pair in found.values()])
    rows: dict[str, dict[str, Any]] = {}
    for (name, pair), p_value in zip(found.items(), corrected, strict=True):
        low, high = pair.difference.low, pair.difference.high
        shown = (low > 0 or high < 0) and (p_value is None or p_value < 1 - LEVEL)
        rows[name] = {
            "problems": pair.difference.n,
            "difference": pair.difference.value,
            "low": low,
            "high": high,
            "only_first": pair.only_a,
            "only_this": pair.only_b,
            "p": pair.p_value,
            "p_holm": p_value,
            "better": (name if pair.difference.value > 0 else first) if shown else "",
        }
    result: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index")
    result.index.name = f"compared with {first}"
    return result


def notes(
    runs: Mapping[str, Run],
    configs: Mapping[str, Mapping[str, Any]],
    histories: Mapping[str, pd.DataFrame],
    judged: Mapping[str, Judged],
) -> list[str]:
    """Return the limits of the tables, a sentence each."""
    lines = []
    # A validation before the first step has metrics, at step 0.
    steps = {name: int(table["reward/mean"].count()) if "reward/mean" in table else 0
             for name, table in histories.items()}  # fmt: skip
    for name, run in runs.items():
        if run.status != "FINISHED":
            reason = run.tags.get("guidelines.end", "").split("\n")[0][:200]
            lines.append(f"{name} is {run.status}{f' ({reason})' if reason else ''}: its last values are not final.")
        if not configs[name]:
            lines.append(f"{name} has no config.yaml: what was set is not known.")
        if not steps[name]:
            lines.append(f"{name} has no step: it ended before its first one was recorded.")
        if not judged[name].pairs:
            lines.append(f"{name} has no graded rows: nothing is known of its solutions.")
        elif judged[name].validation.empty:
            lines.append(f"{name} was never validated: its accuracy is that of training alone.")
    if len(set(steps.values())) > 1:
        lines.append(
            "The runs are of different lengths: " + ", ".join(f"{n} {k} steps" for n, k in steps.items()) + "."
        )
    validated = [name for name in runs if len(judged[name].validation)]
    if len(validated) > 1:
        shared = len(by_problem([judged[name].validation for name in validated]))
        if not shared:
            lines.append("The runs share no validation problem: each one's accuracy is on its own problems.")
        elif shared < FEW:
            lines.append(f"Only {shared} validation problems are shared: the intervals say little below {FEW}.")
    return lines


def answer(comparison: Comparison) -> list[str]:
    """Return what the comparison shows, a sentence for each run but the first, and one on exact match."""
    first = next(iter(comparison.status))
    lines = []
    for name, row in comparison.pairs.iterrows():
        if not row["problems"]:
            lines.append(f"{name} and {first} have no validation problem in common, so neither is shown to be better.")
            continue
        found = (
            f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] accuracy by math-verify on "
            f"{row['problems']} shared validation problems"
        )
        p_value = row["p_holm"]
        if p_value is not None and not np.isnan(p_value):
            corrected = ", Holm-corrected" if len(comparison.pairs) > 1 else ""
            found += f", McNemar's p = {p_value:.2g}{corrected}"
        verdict = f"{row['better']} is better" if row["better"] else "no difference is shown"
        lines.append(f"{name} against {first}: {found}: {verdict}.")
    totals = [judged.tally.loc[ALL] for judged in comparison.judged.values()]
    wronged, right = (int(sum(total[key] for total in totals)) for key in ("wronged", "math_verify"))
    if right:
        lines.append(
            f"Exact match called {number(wronged)} of the {number(right)} answers wrong that math-verify calls right "
            f"({wronged / right:.1%})."
        )
    return lines
