"""Where a step's time goes: by phase, by GPU, and by the solver's calls. Pure functions of what a run recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.timing import Lengths
from guidelines_core.runs.phases import IN_STEP, seconds_metric

OTHER = "other"
PHASES = {**IN_STEP, OTHER: "between the phases"}
"""The phases of a step; `other` is the time that belongs to none of verl's."""

CALLS = ["step", "sample", "guideline_tokens", "solution_tokens", "solution_truncated", "solver_s", "grader_s",
         "asked_at", "question", "problem_id"]  # fmt: skip
"""The columns of the graded rows that are read; older runs lack some."""


@dataclass(frozen=True)
class Step:
    """One step of a run, the one of median length among those after the first, which compiles and warms up.

    Attributes:
        number: the step's number; 0 for figures from a file.
        total: its seconds.
        seconds: its seconds by phase, in order, `other` included.
        lengths: mean tokens of its prompts, guidelines and solutions.
        estimated: whether `seconds` are the estimate's shares of `total`.
        calls: its solver calls (`solver_calls`), None if unknown.
    """

    number: int
    total: float
    seconds: dict[str, float]
    lengths: Lengths
    estimated: bool = False
    calls: pd.DataFrame | None = None


@dataclass(frozen=True)
class Lane:
    """The activity of some GPUs in a step.

    Attributes:
        label: the GPUs' numbers and role.
        gpus: how many.
        bars: (begin, end, phase) in s from the step's begin, none overlapping.
    """

    label: str
    gpus: int
    bars: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def busy(self) -> float:
        """Seconds of the step in which these GPUs were busy."""
        return sum(end - begin for begin, end, _ in self.bars)

    def idle(self, total: float) -> float:
        """Share of a step of `total` s in which these GPUs were idle."""
        return max(0.0, 1 - self.busy / total)


def median_step(history: pd.DataFrame) -> int:
    """Return the number of the step of median length (the shorter of two) among those after the first.

    Args:
        history: index `step`, with `timing_s/step`; at least one step has it.
    """
    taken = history["timing_s/step"].dropna().sort_index()
    later = taken.iloc[1:] if len(taken) > 1 else taken
    return int(later.sort_values(kind="stable").index[(len(later) - 1) // 2])


def phase_seconds(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return a step's seconds by phase, in order; `other` is the rest.

    Args:
        metrics: one step's metrics, NaN where one was not logged.
    """
    timed = {name: float(metrics.get(seconds_metric(name), math.nan)) for name in IN_STEP}
    found = {name: seconds for name, seconds in timed.items() if not math.isnan(seconds)}
    return {**found, OTHER: max(0.0, float(metrics["timing_s/step"]) - sum(found.values()))}


def solver_calls(rows: pd.DataFrame, seconds: Mapping[str, float], in_turns: bool) -> tuple[pd.DataFrame, bool]:
    """Return when each solver call of a step began and ended, and whether that was recorded.

    A row has the duration of its call, and in newer runs the time of its request. For older runs, all guidelines are
    assumed to begin with the phase and to grow at the same rate: the highest one with which no call ends after the
    phase.

    Args:
        rows: a step's graded rows.
        seconds: the step's seconds by phase.
        in_turns: whether the solver begins only after all guidelines are written, in the phase `reward`.

    Returns:
        Columns `asked`, `answered`, `graded` in s from the step's begin, `tokens`, `truncated`, by `answered`.
    """
    rows = by_call(rows)
    window = seconds["gen"]
    took = rows["solver_s"] + rows["grader_s"].fillna(0.0)
    recorded = bool(rows["asked_at"].notna().all())
    if recorded:
        end = window + (seconds.get("reward", 0.0) if in_turns else 0.0)
        moments = pd.to_datetime(rows["asked_at"], format="ISO8601", utc=True)
        asked = (moments - moments.min()).dt.total_seconds()
        asked += end - (asked + took).max()
    elif in_turns:
        asked = pd.Series(window, index=rows.index)
    else:
        asked = rows["guideline_tokens"] * float(((window - took) / rows["guideline_tokens"].clip(lower=1)).min())
    asked = asked.clip(lower=0.0)
    calls = pd.DataFrame(
        {
            "asked": asked,
            "answered": asked + rows["solver_s"],
            "graded": asked + took,
            "tokens": rows["solution_tokens"],
            "truncated": rows["solution_truncated"],
        }
    )
    ordered: pd.DataFrame = calls.sort_values("answered", ignore_index=True)
    return ordered, recorded


def by_call(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each solver call, which may have written several solutions: their tokens together."""
    if "sample" not in rows:
        return rows  # an older run with one solution per call
    first = rows["sample"] == 0
    tokens = rows["solution_tokens"].groupby(first.cumsum()).sum().to_numpy()
    calls: pd.DataFrame = rows[first].assign(solution_tokens=tokens)
    return calls


def in_waves(config: DictConfig, wrote: float, solved: float) -> pd.DataFrame:
    """Return the calls of an estimated step, in the columns of `solver_calls`.

    Args:
        config: the configuration, which has the number of calls and of requests in flight.
        wrote, solved: seconds for all guidelines, which end together, and then for all solutions.
    """
    count = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    at_once = min(count, layout.requests_in_flight(config))
    waves = np.arange(count) // at_once + 1
    answered = wrote + waves * solved / waves[-1]
    nothing = np.full(count, np.nan)
    columns = {"asked": wrote, "answered": answered, "graded": answered, "tokens": nothing, "truncated": nothing}
    calls: pd.DataFrame = pd.DataFrame(columns)
    return calls


def in_flight(calls: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the times (s) at which the number of calls in progress changes, and the number after each."""
    moments = np.concatenate([calls["asked"].to_numpy(), calls["answered"].to_numpy()])
    changes = np.concatenate([np.ones(len(calls)), -np.ones(len(calls))])
    # At equal times ends count before begins, so that consecutive calls do not count as simultaneous.
    order = np.lexsort((changes, moments))
    return moments[order], np.cumsum(changes[order])


def spans(calls: pd.DataFrame) -> list[tuple[float, float]]:
    """Return the intervals (begin, end) in s with at least one call in progress."""
    found: list[tuple[float, float]] = []
    for asked, answered in calls[["asked", "answered"]].sort_values("asked").itertuples(index=False):
        if found and asked <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], answered))
        else:
            found.append((asked, answered))
    return found


def lanes(config: DictConfig, step: Step) -> list[Lane]:
    """Return the activity of each GPU pool of the layout in the step.

    Within `gen` the rollout's GPUs are busy until the last guideline is written, the solver's from the first call to
    the last. If the calls are unknown, both count as busy throughout. A trainer with a separate rollout
    (`separate_async`) only waits in `gen`, and the rollout's GPUs are busy during the whole step.
    """
    bars: list[tuple[float, float, str]] = []
    moment = 0.0
    for name, seconds in step.seconds.items():
        if name != OTHER:
            bars.append((moment, moment + seconds, name))
            moment += seconds
    window = step.seconds["gen"]
    separate, in_turns = layout.separate(config), layout.solver_in_turns(config)
    calls = None if separate else step.calls
    writing = window if calls is None or in_turns else min(window, float(calls["asked"].max()))
    solving = [(0.0, step.total if separate else window)] if calls is None else spans(calls)
    training = [bar for bar in bars if bar[2] not in ("gen", "reward")]
    found = []
    for placement in layout.placements(config):
        roles = placement.role.split(" + ")
        mine: list[tuple[float, float, str]] = []
        if "rollout" in roles:
            mine.append((0.0, step.total if separate else writing, "gen"))
        if "solver" in roles:
            mine += [bar for bar in bars if bar[2] == "reward"] if in_turns else [(*span, "solver") for span in solving]
        if "training" in roles:
            mine += training
        count = len(placement.gpus) * placement.nodes
        kind = "GPU" if config.trainer.device == "cuda" else "slot"
        label = f"{kind}{'s' * (count > 1)} {placement.label}: {placement.role}"
        found.append(Lane(label, count, mine))
    return found


def overlap(config: DictConfig, step: Step) -> float:
    """Return the seconds in which guidelines and solutions were written at the same time, 0 where not known."""
    if step.calls is None or layout.solver_in_turns(config) or layout.separate(config):
        return 0.0
    written = float(step.calls["asked"].max())
    return float(sum(max(0.0, min(end, written) - begin) for begin, end in spans(step.calls)))


@dataclass(frozen=True)
class Slowest:
    """The slowest 1 % of a run's solver calls, at least one.

    Attributes:
        calls: their rows, slowest first.
        of: how many calls there were.
        threshold: seconds of the fastest of them.
        held: mean seconds per step that they delay the step's last call.
        enough: tokens of the longest other solution, if all of these are longer; None if length is not the reason.
    """

    calls: pd.DataFrame
    of: int
    threshold: float
    held: float
    enough: int | None


def slowest(rows: pd.DataFrame, by_step: Mapping[int, pd.DataFrame]) -> Slowest:
    """Return the slowest 1 % of the calls.

    Args:
        rows: every graded row, at least one with `solver_s`.
        by_step: each step's calls (`solver_calls`).
    """
    known = rows.dropna(subset=["solver_s"])
    count = math.ceil(len(known) / 100)
    calls = known.nlargest(count, "solver_s")
    threshold = float(calls["solver_s"].min())
    held = []
    for step in by_step.values():
        others = step.loc[step["answered"] - step["asked"] < threshold - 1e-9, "graded"]
        held.append(float(step["graded"].max() - others.max()) if len(others) else 0.0)
    longest = known.drop(calls.index)["solution_tokens"].max()
    enough = int(longest) if longest < calls["solution_tokens"].min() else None
    return Slowest(calls, len(known), threshold, float(np.mean(held)) if held else 0.0, enough)
