"""Computes the cost of a run: hours, GPU-hours, energy, and money if a GPU-hour has a price.

The trainer writes these metrics into the journal with every step. A run holds all GPUs of its layout from its launch
to its end, so its GPU-hours are their number times the hours, busy or idle. A run on a CPU has hours and 0 GPU-hours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from guidelines_core.runs.journal import Journal, attempts

HOURS, GPU_HOURS, KWH, DOLLARS = "cost/hours", "cost/gpu_hours", "cost/kwh", "cost/dollars"
"""Metrics of the whole run so far, over all attempts, including steps that were trained again."""

STEP_GPU_S, STEP_WH, STEP_DOLLARS = "cost/step_gpu_s", "cost/step_wh", "cost/step_dollars"
"""Metrics of one step, with the validation and the checkpoint before it: GPU-seconds, Wh, dollars."""

ROLLOUT_GPU_S, ROLLOUT_WH, ROLLOUT_DOLLARS = "cost/rollout_gpu_s", "cost/rollout_wh", "cost/rollout_dollars"
"""Metrics of one graded rollout: those of a step, divided by the number of its graded rollouts."""


class Meter:
    """Adds the cost of one attempt to that of the run's earlier attempts.

    Args:
        gpus: the number of GPUs of the run; 0 on a CPU.
        price: dollars for a GPU-hour; None counts no money.
        began: when the attempt was launched, in seconds since 1970.
        before: the earlier attempts' last values of `HOURS`, `GPU_HOURS`, `KWH` and `DOLLARS`, see `spent`.
        joules: returns the GPUs' energy counter, in J; None where there is none.
    """

    def __init__(
        self,
        gpus: int,
        price: float | None,
        began: float,
        before: Mapping[str, float],
        joules: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._gpus, self._price, self._began, self._before = gpus, price, began, before
        self._read = joules
        self._first_joules = self._last_joules = joules()
        self._last = began

    def step_begins(self, now: float) -> None:
        """Start the next step at `now`, in seconds since 1970."""
        self._last, self._last_joules = now, self._read()

    def total(self, now: float) -> dict[str, float]:
        """Return the metrics of the whole run at `now`, in seconds since 1970."""
        return self._total(now, self._read())

    def step(self, now: float, graded: float) -> dict[str, float]:
        """Return the metrics of the whole run at `now`, and of the step that ends then with `graded` rollouts."""
        joules = self._read()
        seconds, wh = self._gpus * max(0.0, now - self._last), _wh(self._last_joules, joules)
        self._last, self._last_joules = now, joules
        found = {STEP_GPU_S: seconds} if self._gpus else {}
        if wh is not None:
            found[STEP_WH] = wh
        if self._price is not None and self._gpus:
            found[STEP_DOLLARS] = seconds / 3600 * self._price
        if graded:
            of_rollout = {STEP_GPU_S: ROLLOUT_GPU_S, STEP_WH: ROLLOUT_WH, STEP_DOLLARS: ROLLOUT_DOLLARS}
            found |= {of_rollout[name]: value / graded for name, value in found.items()}
        return {**self._total(now, joules), **found}

    def _total(self, now: float, joules: float | None) -> dict[str, float]:
        hours = max(0.0, now - self._began) / 3600
        found = {HOURS: hours, GPU_HOURS: hours * self._gpus}
        if (wh := _wh(self._first_joules, joules)) is not None:
            found[KWH] = wh / 1000
        if self._price is not None and self._gpus:
            found[DOLLARS] = hours * self._gpus * self._price
        return {name: value + self._before.get(name, 0.0) for name, value in found.items()}


def _wh(first: float | None, last: float | None) -> float | None:
    """Return the Wh between two readings in J; None if one is missing or the counter was reset in between."""
    return None if first is None or last is None or last < first else (last - first) / 3600


def spent(directory: Path) -> dict[str, float]:
    """Return the last recorded totals of the run that owns `directory`, by metric; empty if there are none."""
    totals = (HOURS, GPU_HOURS, KWH, DOLLARS)
    found: dict[str, float] = {}
    for path in attempts(directory):
        for entry in Journal(path).entries():
            found |= {name: entry.metrics[name] for name in totals if name in entry.metrics}
    return found


def in_words(metrics: Mapping[str, float]) -> str | None:
    """Return a run's cost in words, such as `3.2 GPU-hours, 1.9 kWh, $8.10`; None if `metrics` have no cost."""
    if GPU_HOURS not in metrics:
        return None
    if not metrics[GPU_HOURS]:
        return f"{metrics[HOURS]:.2f} hours of a CPU machine, no GPU-hours"
    return amounts(metrics[GPU_HOURS], metrics.get(KWH), metrics.get(DOLLARS))


def amounts(gpu_hours: float, kwh: float | None, dollars: float | None) -> str:
    """Return GPU-hours, and known energy and money, in words."""
    parts = [f"{figure(gpu_hours)} GPU-hours"]
    parts += [f"{figure(kwh)} kWh"] if kwh is not None else []
    parts += [money(dollars)] if dollars is not None else []
    return ", ".join(parts)


def of_one(gpu_s: float | None, wh: float | None, dollars: float | None) -> str:
    """Return the cost of a step or a rollout in words: those of GPU-seconds, Wh and dollars that are known."""
    parts = [f"{figure(gpu_s)} GPU-seconds"] if gpu_s is not None else []
    parts += [f"{figure(wh)} Wh"] if wh is not None else []
    parts += [money(dollars)] if dollars is not None else []
    return ", ".join(parts)


def figure(value: float) -> str:
    """Return a number with three significant digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def money(dollars: float) -> str:
    """Return an amount with cents, or with three significant digits if it is less than ten cents."""
    return f"${dollars:,.2f}" if dollars >= 0.1 else f"${dollars:.3g}"
