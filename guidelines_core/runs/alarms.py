"""What is wrong with a run, by its steps' metrics: rules, with the limits of `experiments/conf/alarms/limits.yaml`.

A rule looks at all trained steps so far and says what is wrong with the last one, or nothing. A rule whose metrics the
run does not have says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from guidelines_core.runs.journal import STEP, Entry

Step = Mapping[str, float]
"""One trained step's metrics; NaN is a value that was no number."""

Limits = Mapping[str, Mapping[str, float] | None]
"""Each rule's limits by the rule's name; a rule that is missing or None is off."""

ROOM = "disk/checkpoints_left"
"""How many checkpoints as large as the last one still fit on the disk."""


@dataclass(frozen=True)
class Alarm:
    """A rule that held without a break from step `first` to step `last`.

    Attributes:
        name: the rule's name.
        first, last: steps.
        words: what was wrong at `first`, one sentence.
    """

    name: str
    first: int
    last: int
    words: str

    def __str__(self) -> str:
        steps = f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"
        return f"{self.name}, {steps}: {self.words}"


def raised(steps: Sequence[Step], limits: Limits) -> dict[str, str]:
    """Return what is wrong with the last of `steps`, in words, by the rule's name; empty if nothing is."""
    found = {}
    for name, rule in RULES.items():
        if (limit := limits.get(name)) is not None and (words := rule(steps, limit)):
            found[name] = words
    return found


def continued(alarms: Sequence[Alarm], steps: Sequence[Step], limits: Limits) -> list[Alarm]:
    """Return `alarms`, those of all steps before the last, with what is raised by the last of `steps`."""
    step, before = int(steps[-1][STEP]), int(steps[-2][STEP]) if len(steps) > 1 else None
    found = raised(steps, limits)
    going_on = {alarm.name: alarm for alarm in alarms if alarm.last == before and alarm.name in found}
    kept = [replace(alarm, last=step) if going_on.get(alarm.name) is alarm else alarm for alarm in alarms]
    return kept + [Alarm(name, step, step, words) for name, words in found.items() if name not in going_on]


def alarms_of(steps: Sequence[Step], limits: Limits) -> list[Alarm]:
    """Return all alarms of a run's steps, in the order in which they began."""
    found: list[Alarm] = []
    for count in range(1, len(steps) + 1):
        found = continued(found, steps[:count], limits)
    return found


class AlarmLog:
    """The alarms of a run that goes on.

    Attributes:
        steps: the metrics of each trained step; what is logged after it, such as its checkpoint, is part of it.
        alarms: all alarms so far, in the order in which they began.
    """

    def __init__(self, limits: Limits, earlier: Iterable[Entry] = ()) -> None:
        """Begin with the entries of earlier attempts, see `journal.history`."""
        self._limits = limits
        self.steps: list[dict[str, float]] = []
        for entry in earlier:
            self._add(entry)
        self.alarms = alarms_of(self.steps, limits)

    def take(self, entry: Entry) -> list[Alarm]:
        """Add an entry of the journal and return the alarms that begin with it.

        A step that is trained again cuts off what was known of it and of later ones.
        """
        before = len(self.steps)
        if not self._add(entry):
            return []
        if len(self.steps) <= before:
            self.alarms = alarms_of(self.steps[:-1], self._limits)
        self.alarms = continued(self.alarms, self.steps, self._limits)
        return [alarm for alarm in self.alarms if alarm.first == entry.metrics[STEP]]

    def _add(self, entry: Entry) -> bool:
        """Add an entry and return whether it is a trained step."""
        if STEP not in entry.metrics:
            if self.steps:
                self.steps[-1].update(entry.metrics)
            return False
        while self.steps and self.steps[-1][STEP] >= entry.metrics[STEP]:
            self.steps.pop()
        self.steps.append(dict(entry.metrics))
        return True


def nan(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say which loss, gradient norm or reward is no number."""
    watched = ("actor/", "critic/", "reward/mean")
    bad = sorted(name for name, value in steps[-1].items() if name.startswith(watched) and math.isnan(value))
    return f"not a number: {', '.join(bad[:3])}{' and more' if len(bad) > 3 else ''}" if bad else None


def reward_falling(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the mean reward has fallen from the steps before to the last steps."""
    values, size = _values(steps, "reward/mean"), int(limit["steps"])
    if len(values) < 2 * size:
        return None
    before, now = values[-2 * size : -size], values[-size:]
    drop = fmean(before) - fmean(now)
    error = math.sqrt((stdev(before) ** 2 + stdev(now) ** 2) / size)
    if drop <= limit["drop"] or drop <= limit["errors"] * error:
        return None
    return f"mean reward of {size} steps fell from {fmean(before):.3f} to {fmean(now):.3f}"


def reward_flat(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the reward's straight line over the last steps does not rise (least squares)."""
    size = int(limit["steps"])
    values = _values(steps, "reward/mean")[-size:]
    if len(values) < size or fmean(values) > limit["enough"]:
        return None
    moments = [index - (size - 1) / 2 for index in range(size)]
    spread = sum(moment**2 for moment in moments)
    slope = sum(moment * value for moment, value in zip(moments, values, strict=True)) / spread
    rest = [value - fmean(values) - slope * moment for moment, value in zip(moments, values, strict=True)]
    error = math.sqrt(sum(each**2 for each in rest) / (size - 2) / spread)
    if slope * size >= limit["rise"] and slope >= 2 * error:
        return None
    return f"mean reward did not rise in {size} steps: {fmean(values):.3f}, {slope * size:+.3f} from first to last"


def entropy_collapse(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the policy's entropy is a small share of what it was at the start."""
    values, size = _values(steps, "actor/entropy"), int(limit["steps"])
    if len(values) <= size:
        return None
    start, now = max(values[:3]), fmean(values[-size:])
    return f"entropy fell from {start:.3g} to {now:.3g}" if now < limit["share"] * start else None


def kl_spike(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the KL to the reference is large, or has jumped."""
    for name in ("actor/kl_loss", "actor/reward_kl_penalty"):
        value, usual = _last(steps, name), _median(steps, name, limit["after"])
        if value is not None and value > limit["above"]:
            return f"KL to the reference is {value:.3g}"
        if value is not None and usual is not None and value > max(limit["times"] * usual, limit["at_least"]):
            return f"KL to the reference is {value:.3g}, its median {usual:.3g}"
    return None


def gradient_spike(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the gradient's norm has jumped."""
    value, usual = _last(steps, "actor/grad_norm"), _median(steps, "actor/grad_norm", limit["after"])
    if value is None or usual is None or value <= max(limit["times"] * usual, limit["at_least"]):
        return None
    return f"gradient norm is {value:.3g}, its median {usual:.3g}"


def mixed_groups(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that few groups have mixed rewards."""
    share = _mean(steps, "reward/mixed_groups", limit["steps"])
    return f"{share:.0%} of the groups have mixed rewards" if share is not None and share < limit["below"] else None


def leak(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that many guidelines contain the gold answer."""
    share = _mean(steps, "guideline/leak", limit["steps"])
    return (
        f"{share:.0%} of the guidelines contain the gold answer"
        if share is not None and share > limit["above"]
        else None
    )


def truncation(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that many guidelines or solutions are cut at the limit of tokens."""
    shares = {kind: _mean(steps, f"{kind}/truncated", limit["steps"]) for kind in ("guideline", "solution")}
    cut = [f"{share:.0%} of the {kind}s" for kind, share in shares.items() if share and share > limit["above"]]
    return f"{' and '.join(cut)} are cut at the limit of tokens" if cut else None


def solver_slow(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the solver takes much longer than it usually does."""
    value, usual = _last(steps, "solver/latency_p50_s"), _median(steps, "solver/latency_p50_s", limit["after"])
    if value is None or usual is None or value <= max(limit["times"] * usual, limit["at_least"]):
        return None
    return f"the solver's median latency is {value:.1f} s, usually {usual:.1f} s"


def rollout_mismatch(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that rollout engine and training do not agree on the tokens' probabilities."""
    value = _last(steps, "training/rollout_probs_diff_mean")
    if value is None or value <= limit["above"]:
        return None
    return f"rollout and training differ by {value:.3g} in a token's probability, on average"


def slow_step(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the step took much longer than the median step."""
    value, usual = _last(steps, "timing_s/step"), _median(steps, "timing_s/step", limit["after"])
    if value is None or usual is None or value <= max(limit["times"] * usual, usual + limit["at_least"]):
        return None
    return f"the step took {value:.0f} s, the median step {usual:.0f} s"


def disk(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Say that the disk is nearly full."""
    left = _values(steps, ROOM)
    return f"the disk has room for {left[-1]:.1f} checkpoints" if left and left[-1] < limit["below"] else None


RULES: dict[str, Callable[[Sequence[Step], Mapping[str, float]], str | None]] = {
    rule.__name__: rule
    for rule in (nan, reward_falling, reward_flat, entropy_collapse, kl_spike, gradient_spike, mixed_groups, leak,
                 truncation, solver_slow, rollout_mismatch, slow_step, disk)
}  # fmt: skip
"""The rules by their names, which are those of their limits."""


def _values(steps: Sequence[Step], name: str) -> list[float]:
    """Return a metric's values in the steps that have it, without those that are no number."""
    return [step[name] for step in steps if name in step and not math.isnan(step[name])]


def _last(steps: Sequence[Step], name: str) -> float | None:
    """Return the last step's value, None if it has none."""
    value = steps[-1].get(name, math.nan)
    return None if math.isnan(value) else value


def _mean(steps: Sequence[Step], name: str, count: float) -> float | None:
    """Return the mean of the last `count` steps, None if there are not so many that have the metric."""
    values = _values(steps[-int(count) :], name)
    return fmean(values) if len(values) == count else None


def _median(steps: Sequence[Step], name: str, after: float) -> float | None:
    """Return the median of the steps before the last but for the first, which warms up; None of fewer than `after`."""
    values = _values(steps[1:-1], name)
    return median(values) if len(values) >= after else None
