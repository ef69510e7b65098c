"""Every grader's verdicts on every stored solution, and the answers that only math-verify calls right.

Runs with different graders are compared by the verdicts of one grader on both. Every row has the verdicts of all
graders, from its run or from a regrading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.stats.answer_kinds import answer_kind
from analysis.store.runs import Run, Split, rows
from guidelines_core.grading.extract import final_answer
from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import GRADERS, Verdict
from guidelines_core.reward.score import DECIDED

VERDICTS = [f"{name}_correct" for name in GRADERS]
MATH_VERIFY, EXACT_MATCH = "math_verify_correct", "exact_match_correct"
TITLES = {name: {"math_verify": "math-verify"}.get(name, name.replace("_", " ")) for name in GRADERS}
"""The graders' names in words."""

COLUMNS = ["step", "problem_id", "gold", "acc", *VERDICTS]
SPLITS: tuple[Split, ...] = ("train", "validation")
WINDOW = 2000  # pairs in the pool at once
ALL = "all"


@dataclass(frozen=True)
class Judged:
    """A run's stored verdicts.

    Attributes:
        validation: the rows (`COLUMNS`) of the last validation; empty if there was none.
        tally: `tally` of all rows.
        examples: answers that only math-verify calls right: kind, gold, answer, a few of each kind.
        changed: how many verdicts of each grader a regrading changed; None without regrading.
        pairs: graded solutions.
    """

    validation: pd.DataFrame
    tally: pd.DataFrame
    examples: pd.DataFrame
    changed: dict[str, int] | None
    pairs: int


def judge(run: Run, pool: GradingPool | None = None, progress: Callable[[int], None] = lambda _: None) -> Judged:
    """Read the run's verdicts, or grade again with `pool`; `progress` gets the number of further pairs done."""
    read = COLUMNS if pool is None else [*COLUMNS, "solution"]
    tables = {split: rows(run, split, read) for split in SPLITS}
    changed = None
    if pool is not None:
        changed = dict.fromkeys(VERDICTS, 0)
        for table in tables.values():
            fresh = regraded(table, pool, progress)
            for name in VERDICTS:
                changed[name] += int((fresh[name] != table[name]).sum())
            table[VERDICTS] = fresh
    graded = [table.assign(split=split) for split, table in tables.items() if len(table)]
    together = pd.concat(graded, ignore_index=True) if graded else pd.DataFrame(columns=[*COLUMNS, "split"])
    together["kind"] = together["gold"].map({gold: answer_kind(gold) for gold in together["gold"].unique()})
    validation = tables["validation"]
    last = validation[validation["step"] == validation["step"].max()]
    return Judged(last[COLUMNS], tally(together), examples(run, together), changed, len(together))


def tally(table: pd.DataFrame) -> pd.DataFrame:
    """Count verdicts by the gold's kind, the most wronged first, and in all.

    Args:
        table: rows with `kind` and every grader's verdict (1.0 or 0.0). Rows that math-verify or exact match gave no
            verdict are not counted.

    Returns:
        Columns answers; one for each grader, the answers that it calls correct; wronged, those that math-verify calls
        correct and exact match wrong, and wronged_share, their share of those that math-verify calls correct;
        exact_only, those that exact match calls correct and math-verify wrong.
    """
    table = table.dropna(subset=[MATH_VERIFY, EXACT_MATCH])
    right, same = table[MATH_VERIFY] == 1, table[EXACT_MATCH] == 1
    marks = pd.DataFrame(
        {
            "kind": table["kind"],
            "answers": 1,
            **{name: (table[f"{name}_correct"] == 1).astype(int) for name in GRADERS},
            "wronged": (right & ~same).astype(int),
            "exact_only": (same & ~right).astype(int),
        }
    )
    counts: pd.DataFrame = marks.groupby("kind").sum().astype(int).sort_values(["wronged", "answers"], ascending=False)
    counts.loc[ALL] = counts.sum()
    share = counts["wronged"] / counts["math_verify"].where(counts["math_verify"] > 0)
    counts.insert(list(counts).index("wronged") + 1, "wronged_share", share)
    return counts


def examples(run: Run, table: pd.DataFrame, each: int = 3) -> pd.DataFrame:
    """Return up to `each` answers of a kind that only math-verify calls right: columns kind, gold, answer."""
    wronged = table[(table[MATH_VERIFY] == 1) & (table[EXACT_MATCH] == 0)]
    chosen = wronged.drop_duplicates(["kind", "gold"]).groupby("kind").head(each)
    found = []
    for split in SPLITS:
        part = chosen[chosen["split"] == split]
        if part.empty:
            continue
        wanted = set(zip(part["step"], part["problem_id"], strict=True))
        read = rows(run, split, [*COLUMNS, "solution"], steps=set(part["step"]))
        for row in read.itertuples(index=False):
            key = (row.step, row.problem_id)
            answer = final_answer(str(row.solution))
            if key in wanted and answer and row.math_verify_correct == 1 and row.exact_match_correct == 0:
                wanted.discard(key)
                found.append({"kind": answer_kind(str(row.gold)), "gold": row.gold, "answer": answer})
    result: pd.DataFrame = pd.DataFrame(found, columns=["kind", "gold", "answer"]).drop_duplicates()
    return result


def pairs_to_grade(run: Run) -> int:
    """Return how many different pairs of gold and solution a regrading of the run judges."""
    return sum(len(rows(run, split, ["gold", "solution"]).drop_duplicates()) for split in SPLITS)


def regraded(table: pd.DataFrame, pool: GradingPool, progress: Callable[[int], None]) -> pd.DataFrame:
    """Return every grader's new verdict on each row: 1.0, 0.0, or NaN for none; equal pairs are graded once."""
    pairs = table[["gold", "solution"]].drop_duplicates()
    verdicts = pairs.assign(**dict.fromkeys(VERDICTS, np.nan))
    given = [
        [float(verdict[name].correct) if verdict[name].reason in DECIDED else np.nan for name in GRADERS]
        for verdict in _graded(zip(pairs["gold"], pairs["solution"], strict=True), pool, progress)
    ]
    verdicts[VERDICTS] = np.array(given, dtype=float).reshape(-1, len(VERDICTS))
    fresh: pd.DataFrame = table[["gold", "solution"]].merge(verdicts, on=["gold", "solution"], how="left")[VERDICTS]
    fresh.index = table.index
    return fresh


def _graded(
    pairs: Iterable[tuple[str, str]], pool: GradingPool, progress: Callable[[int], None]
) -> Iterator[dict[str, Verdict]]:
    waiting: deque[Future[dict[str, Verdict]]] = deque()
    for gold, solution in pairs:
        waiting.append(pool.submit(gold, solution))
        if len(waiting) > WINDOW:
            yield waiting.popleft().result()
            progress(1)
    while waiting:
        yield waiting.popleft().result()
        progress(1)


def by_problem(validations: Sequence[pd.DataFrame], verdict: str = MATH_VERIFY) -> pd.DataFrame:
    """Return each run's accuracy on each problem that all of them were validated on: a row a problem, a column a run.

    A problem with several answers counts with their mean.
    """
    means = [table.dropna(subset=[verdict]).groupby("problem_id")[verdict].mean() for table in validations]
    shared: pd.DataFrame = pd.concat(means, axis=1, join="inner", keys=range(len(means))).astype(float).sort_index()
    return shared
