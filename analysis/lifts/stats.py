"""The figures of a measurement: accuracy, pass@k, paired differences, leaks, tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.lifts.arms import KINDS, NONE, TRAINED, UNTRAINED
from analysis.stats.intervals import Estimate, Paired, compare_paired, mean_interval
from guidelines_core.reward.repeated import repeated

PAIRS = ((NONE, UNTRAINED), (NONE, TRAINED), (UNTRAINED, TRAINED))
"""The pairs of arms that are compared; the second is expected to be better."""


@dataclass(frozen=True)
class Arm:
    """The figures of one solver with one kind of guideline; lengths in tokens per sample.

    Attributes:
        solver, kind: the arm.
        accuracy: mean over the problems of the share of their samples that are right.
        pass_at: pass@k by k.
        leaks: share of the guidelines that contain the answer.
        repeated: share of the guidelines that are the same for several problems; NaN without guidelines.
        without_leaks: accuracy over the problems none of whose guidelines leaks.
        guideline_tokens, solution_tokens: means.
        solution_cut: share of truncated solutions.
    """

    solver: str
    kind: str
    accuracy: Estimate
    pass_at: dict[int, float]
    leaks: float
    repeated: float
    without_leaks: Estimate
    guideline_tokens: float
    solution_tokens: float
    solution_cut: float


@dataclass(frozen=True)
class Pair:
    """A solver with `better`'s guidelines compared with `base`'s, on the same problems.

    Attributes:
        paired: b - a; without a test if problems have several samples.
        without_leaks: the same over the problems none of whose guidelines leaks in either arm.
        helped, harmed: ids of the problems with a higher and a lower share of right answers, the largest change first.
    """

    solver: str
    base: str
    better: str
    paired: Paired
    without_leaks: Paired
    helped: list[str]
    harmed: list[str]


@dataclass(frozen=True)
class Lift:
    """The whole result.

    Attributes:
        problems: how many problems count: those with a verdict for every sample in every arm.
        samples: answers for each problem and arm.
        left_out: problems that do not count, by the reason of a missing verdict.
        arms, pairs: by solver, in the order of `KINDS` and `PAIRS`.
    """

    problems: int
    samples: int
    left_out: dict[str, int]
    arms: list[Arm]
    pairs: list[Pair]


def lift(rows: pd.DataFrame) -> Lift:
    """Return the figures of the rows of `arms.measure`."""
    left_out = rows[rows["correct"].isna()].groupby("problem_id")["reason"].first().value_counts()
    whole = counted(rows)
    arms, pairs = [], []
    for solver, of_solver in whole.groupby("solver", sort=False):
        by_kind = {str(kind): table for kind, table in of_solver.groupby("kind", sort=False)}
        arms += [arm(str(solver), kind, by_kind[kind]) for kind in KINDS if kind in by_kind]
        pairs += [
            pair(str(solver), by_kind[base], by_kind[better])
            for base, better in PAIRS
            if base in by_kind and better in by_kind
        ]
    return Lift(
        problems=int(whole["problem_id"].nunique()),
        samples=int(rows["sample"].nunique()),
        left_out={str(reason): int(count) for reason, count in left_out.items()},
        arms=arms,
        pairs=pairs,
    )


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the problems that have a verdict in each of their rows."""
    found: pd.DataFrame = rows[~rows["problem_id"].isin(rows.loc[rows["correct"].isna(), "problem_id"])]
    return found


def arm(solver: str, kind: str, rows: pd.DataFrame) -> Arm:
    """Return the figures of one arm's rows, each with a verdict."""
    by_problem = rows.groupby("problem_id")
    right, samples = by_problem["correct"].sum(), by_problem.size()
    clean = ~by_problem["leak"].any()
    shares = (right / samples).to_numpy(dtype=float)
    ks = [1 << power for power in range(int(samples.min()).bit_length())]
    return Arm(
        solver=solver,
        kind=kind,
        accuracy=mean_interval(shares),
        pass_at={
            k: float(np.mean([pass_at(k, int(n), int(c)) for n, c in zip(samples, right, strict=True)])) for k in ks
        },
        leaks=float(rows["leak"].mean()),
        repeated=math.nan if kind == NONE else repeated(rows),
        without_leaks=mean_interval(shares[clean.to_numpy()]),
        guideline_tokens=float(rows["guideline_tokens"].mean()),
        solution_tokens=float(rows["solution_tokens"].mean()),
        solution_cut=float(rows["solution_cut"].mean()),
    )


def pass_at(k: int, samples: int, right: int) -> float:
    """Return the chance that one of `k` samples drawn from these is right (Chen et al. 2021, 2107.03374, eq. 1)."""
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def pair(solver: str, base: pd.DataFrame, better: pd.DataFrame) -> Pair:
    """Return the paired comparison of two arms' rows, which have the same problems."""
    shares: pd.DataFrame = pd.DataFrame(
        {name: rows.groupby("problem_id")["correct"].mean() for name, rows in (("a", base), ("b", better))}
    )
    leaking = {*base.loc[base["leak"], "problem_id"], *better.loc[better["leak"], "problem_id"]}
    clean = ~shares.index.isin(leaking)
    change = (shares["b"] - shares["a"]).sort_values(kind="stable")
    return Pair(
        solver=solver,
        base=str(base["kind"].iloc[0]),
        better=str(better["kind"].iloc[0]),
        paired=compare_paired(_values(shares["a"]), _values(shares["b"])),
        without_leaks=compare_paired(_values(shares["a"][clean]), _values(shares["b"][clean])),
        helped=[str(key) for key in change[change > 0].index[::-1]],
        harmed=[str(key) for key in change[change < 0].index],
    )


def _values(column: pd.Series[float]) -> npt.NDArray[np.float64]:
    return column.to_numpy(dtype=float)


def examples(rows: pd.DataFrame, pair: Pair, ids: Sequence[str], count: int) -> list[dict[str, str]]:
    """Return the first `count` of the problems `ids` with guidelines and solutions of both arms, for the page."""
    of_solver = rows[rows["solver"] == pair.solver]
    found = []
    for problem_id in ids[:count]:
        same = of_solver[of_solver["problem_id"] == problem_id].sort_values("sample", kind="stable")
        arms = {kind: same[same["kind"] == kind] for kind in (pair.base, pair.better)}
        # The first sample that shows the change, where one does.
        verdicts = [table["correct"].to_numpy() for table in arms.values()]
        changed = np.flatnonzero(verdicts[0] != verdicts[1])
        at = int(changed[0]) if len(changed) else 0
        example = {
            "problem_id": problem_id,
            "question": str(same["question"].iloc[0]),
            "gold": str(same["gold"].iloc[0]),
        }
        for kind, table in arms.items():
            if kind != NONE:
                leak = " (gives the answer away)" if table["leak"].iloc[at] else ""
                example[f"guideline, {kind}"] = f"{table['guideline'].iloc[at]}{leak}"
            example[f"solution, {kind}"] = str(table["solution"].iloc[at])
        found.append(example)
    return found
