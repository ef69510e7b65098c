"""Rules that detect an unhealthy run by its steps' metrics; `experiments/conf/alarms/limits.yaml` has their limits.

A rule is a function of all trained steps so far and the rule's limits. It returns a sentence about the last step, or
None if all is well or the run has none of its metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from guidelines_core.runs.journal import STEP, Entry

Step = Mapping[str, float]
"""The metrics of one trained step; NaN stands for a value that was not a number."""

Limits = Mapping[str, Mapping[str, float] | None]
"""Each rule's limits by the rule's name; a rule that is missing or None is off."""

ROOM = "disk/checkpoints_left"
"""The metric with the number of checkpoints, as large as the last one, that still fit on the disk."""


@dataclass(frozen=True)
class Alarm:
    """A rule that applied to every step from `first` to `last`.

    Attributes:
        name: the rule's name.
        first: the first step.
        last: the last step so far.
        text: the rule's sentence about `first`.
    """

    name: str
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        steps = f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"
        return f"{self.name}, {steps}: {self.text}"


def active_alarms(steps: Sequence[Step], limits: Limits) -> dict[str, str]:
    """Return the sentences about the last of `steps`, by the name of the rule; empty if no rule applies."""
    found = {}
    for name, rule in RULES.items():
        if (limit := limits.get(name)) is not None and (text := rule(steps, limit)):
            found[name] = text
    return found


def with_last_step(alarms: Sequence[Alarm], steps: Sequence[Step], limits: Limits) -> list[Alarm]:
    """Return `alarms`, which cover all steps but the last, extended by the last step and with its new alarms."""
    step, before = int(steps[-1][STEP]), int(steps[-2][STEP]) if len(steps) > 1 else None
    found = active_alarms(steps, limits)
    ongoing = {alarm.name: alarm for alarm in alarms if alarm.last == before and alarm.name in found}
    extended = [replace(alarm, last=step) if ongoing.get(alarm.name) is alarm else alarm for alarm in alarms]
    return extended + [Alarm(name, step, step, text) for name, text in found.items() if name not in ongoing]


def alarms_of(steps: Sequence[Step], limits: Limits) -> list[Alarm]:
    """Return all alarms of a run's steps, in the order of their first steps."""
    found: list[Alarm] = []
    for count in range(1, len(steps) + 1):
        found = with_last_step(found, steps[:count], limits)
    return found


class AlarmLog:
    """The alarms of a run that is still training.

    Attributes:
        steps: the metrics of each trained step, with those that are logged after it, such as its checkpoint's.
        alarms: all alarms so far, in the order of their first steps.
    """

    def __init__(self, limits: Limits, earlier: Iterable[Entry] = ()) -> None:
        """Start from the entries of earlier attempts, see `journal.history`."""
        self._limits = limits
        self.steps: list[dict[str, float]] = []
        for entry in earlier:
            self._add(entry)
        self.alarms = alarms_of(self.steps, limits)

    def take(self, entry: Entry) -> list[Alarm]:
        """Add an entry of the journal and return the alarms that begin with it.

        A step that is trained again replaces its earlier record and those of all later steps.
        """
        before = len(self.steps)
        if not self._add(entry):
            return []
        if len(self.steps) <= before:
            self.alarms = alarms_of(self.steps[:-1], self._limits)
        self.alarms = with_last_step(self.alarms, self.steps, self._limits)
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
    """Detect losses, gradient norms and rewards that are not a number."""
    watched = ("actor/", "critic/", "reward/mean")
    bad = sorted(name for name, value in steps[-1].items() if name.startswith(watched) and math.isnan(value))
    return f"not a number: {', '.join(bad[:3])}{' and more' if len(bad) > 3 else ''}" if bad else None


def reward_falling(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a fall of the mean reward between the last two windows of `limit["steps"]` steps."""
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
    """Detect a reward whose least-squares line over the last `limit["steps"]` steps does not rise."""
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
    """Detect an entropy of the policy that is a small share of its value at the start."""
    values, size = _values(steps, "actor/entropy"), int(limit["steps"])
    if len(values) <= size:
        return None
    start, now = max(values[:3]), fmean(values[-size:])
    return f"entropy fell from {start:.3g} to {now:.3g}" if now < limit["share"] * start else None


def kl_spike(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a KL to the reference that is large, or many times its median."""
    for name in ("actor/kl_loss", "actor/reward_kl_penalty"):
        value, usual = _last(steps, name), _median(steps, name, limit["after"])
        if value is not None and value > limit["above"]:
            return f"KL to the reference is {value:.3g}"
        if value is not None and usual is not None and value > max(limit["times"] * usual, limit["at_least"]):
            return f"KL to the reference is {value:.3g}, its median {usual:.3g}"
    return None


def gradient_spike(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a gradient norm that is many times its median."""
    value, usual = _last(steps, "actor/grad_norm"), _median(steps, "actor/grad_norm", limit["after"])
    if value is None or usual is None or value <= max(limit["times"] * usual, limit["at_least"]):
        return None
    return f"gradient norm is {value:.3g}, its median {usual:.3g}"


def mixed_groups(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a small share of groups with mixed rewards."""
    share = _mean(steps, "reward/mixed_groups", limit["steps"])
    return f"{share:.0%} of the groups have mixed rewards" if share is not None and share < limit["below"] else None


def leak(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a large share of guidelines with the gold answer in them."""
    return _many(steps, "guideline/leak", limit, "contain the gold answer")


def repeated(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a planner that writes the same guideline for many problems."""
    return _many(steps, "guideline/repeated", limit, "are also those of another problem")


def truncation(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a large share of guidelines or solutions that are cut at the token limit."""
    shares = {kind: _mean(steps, f"{kind}/truncated", limit["steps"]) for kind in ("guideline", "solution")}
    cut = [f"{share:.0%} of the {kind}s" for kind, share in shares.items() if share and share > limit["above"]]
    return f"{' and '.join(cut)} are cut at the limit of tokens" if cut else None


def solver_slow(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a median latency of the solver that is many times its usual value."""
    value, usual = _last(steps, "solver/latency_p50_s"), _median(steps, "solver/latency_p50_s", limit["after"])
    if value is None or usual is None or value <= max(limit["times"] * usual, limit["at_least"]):
        return None
    return f"the solver's median latency is {value:.1f} s, usually {usual:.1f} s"


def rollout_mismatch(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect token probabilities that differ between rollout engine and training."""
    value = _last(steps, "training/rollout_probs_diff_mean")
    if value is None or value <= limit["above"]:
        return None
    return f"rollout and training differ by {value:.3g} in a token's probability, on average"


def slow_step(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a step that took much longer than the median step."""
    value, usual = _last(steps, "timing_s/step"), _median(steps, "timing_s/step", limit["after"])
    if value is None or usual is None or value <= max(limit["times"] * usual, usual + limit["at_least"]):
        return None
    return f"the step took {value:.0f} s, the median step {usual:.0f} s"


def disk(steps: Sequence[Step], limit: Mapping[str, float]) -> str | None:
    """Detect a disk with room for few further checkpoints."""
    left = _values(steps, ROOM)
    return f"the disk has room for {left[-1]:.1f} checkpoints" if left and left[-1] < limit["below"] else None


RULES: dict[str, Callable[[Sequence[Step], Mapping[str, float]], str | None]] = {
    rule.__name__: rule
    for rule in (nan, reward_falling, reward_flat, entropy_collapse, kl_spike, gradient_spike, mixed_groups, leak,
                 repeated, truncation, solver_slow, rollout_mismatch, slow_step, disk)
}  # fmt: skip
"""The rules by name; a rule's limits have the same name."""


def _many(steps: Sequence[Step], name: str, limit: Mapping[str, float], what: str) -> str | None:
    """Return what a share of guidelines does if its mean of `limit["steps"]` steps is above `limit["above"]`."""
    share = _mean(steps, name, limit["steps"])
    return f"{share:.0%} of the guidelines {what}" if share is not None and share > limit["above"] else None


def _values(steps: Sequence[Step], name: str) -> list[float]:
    """Return a metric's values in the steps that have it, without NaN."""
    return [step[name] for step in steps if name in step and not math.isnan(step[name])]


def _last(steps: Sequence[Step], name: str) -> float | None:
    """Return the last step's value of a metric, None if it is absent or NaN."""
    value = steps[-1].get(name, math.nan)
    return None if math.isnan(value) else value


def _mean(steps: Sequence[Step], name: str, count: float) -> float | None:
    """Return the mean over the last `count` steps, None unless all of them have the metric."""
    values = _values(steps[-int(count) :], name)
    return fmean(values) if len(values) == count else None


def _median(steps: Sequence[Step], name: str, after: float) -> float | None:
    """Return the median over the steps between the first, which warms up, and the last; None if fewer than `after`."""
    values = _values(steps[1:-1], name)
    return median(values) if len(values) >= after else None
