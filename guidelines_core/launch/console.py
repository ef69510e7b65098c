"""Console output of a run: a live line while it trains, a summary table at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.launch.alarms import AlarmReporter
from guidelines_core.launch.training import Outcome, Training
from guidelines_core.reward.signal import signal_of_steps
from guidelines_core.runs import cost
from guidelines_core.runs.alarms import Alarm
from guidelines_core.runs.phases import AFTER_STEP, IN_STEP, seconds_metric
from guidelines_core.runs.start import start_line


def watch(training: Training, config: DictConfig, console: Console, reporter: AlarmReporter) -> list[dict[str, Any]]:
    """Show the run's progress until it ends; return every step's metrics, in order."""
    total = config.trainer.total_training_steps
    began = time.monotonic()
    steps: list[dict[str, Any]] = []
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            running = training.running
            for entry in training.new_steps():
                reporter.take(entry)
                if line := start_line(entry["data"]):
                    console.print(line, highlight=False, soft_wrap=True)
                elif "training/global_step" not in entry["data"]:
                    # Metrics that follow the step, such as its checkpoint's seconds.
                    if steps:
                        steps[-1].update(entry["data"])
                else:
                    steps.append(entry["data"])
                    if not console.is_terminal:
                        console.print(progress_line(steps, total, time.monotonic() - began))
            if (line := progress_line(steps, total, time.monotonic() - began)) != shown:
                live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
                shown = line
            if not running:
                return steps
            time.sleep(0.25)


def progress_line(steps: list[dict[str, Any]], total: int, elapsed: float) -> str:
    """Return one line: step k of N, mean reward, seconds a step, time left; `elapsed` in seconds."""
    if not steps:
        return f"starting servers and workers … {elapsed:.0f} s"
    last = steps[-1]
    step = int(last["training/global_step"])
    later = [entry["timing_s/step"] for entry in steps[1:]] or [last["timing_s/step"]]
    pace = sum(later) / len(later)
    line = (
        f"step {step} of {total} · reward {last['reward/mean']:.2f} · {pace:.1f} s a step · "
        f"{duration((total - step) * pace)} left"
    )
    if line_of_cost := cost_so_far(last, (total - step) * pace / 3600):
        line += f" · {line_of_cost}"
    if last.get("reward/ungraded"):
        line += f" · {last['reward/ungraded']:.0f} rollouts without verdict"
    return line


def cost_so_far(last: dict[str, Any], hours_left: float) -> str | None:
    """Return the GPU-hours so far, and how many they become if it takes so many more hours; None on a CPU.

    `last` are the metrics of the last step. Money follows where a GPU-hour has a price.
    """
    if not last.get(cost.GPU_HOURS):
        return None
    share = 1 + hours_left / last[cost.HOURS]
    so_far = f"{cost.figure(last[cost.GPU_HOURS])} of {cost.figure(share * last[cost.GPU_HOURS])} GPU-hours"
    if (dollars := last.get(cost.DOLLARS)) is not None:
        so_far += f", {cost.money(dollars)} of {cost.money(share * dollars)}"
    return so_far


def cost_rows(steps: list[dict[str, Any]]) -> dict[str, str]:
    """Return what the run has cost, and a step and a graded rollout of it on average, in words."""
    found = {"cost": words} if (words := cost.in_words(steps[-1])) else {}
    counted = [step for step in steps if cost.STEP_GPU_S in step]
    graded = sum(step["reward/graded"] for step in counted)
    if not counted or not graded:
        return found
    sums = [
        sum(step[name] for step in counted) if all(name in step for step in counted) else None
        for name in (cost.STEP_GPU_S, cost.STEP_WH, cost.STEP_DOLLARS)
    ]
    for name, count in (("step", len(counted)), ("graded rollout", graded)):
        found[f"cost of a {name}"] = cost.of_one(*(None if each is None else each / count for each in sums))
    return found


def duration(seconds: float) -> str:
    """Return `seconds` in the largest fitting unit, such as `12 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def summary(steps: list[dict[str, Any]], outcome: Outcome, directory: str, alarms: Sequence[Alarm] = ()) -> Table:
    """Return the closing table: reward first → last, accuracy, where the time went, alarms, checkpoint."""
    table = Table(title=f"{outcome.status}: {outcome.reason}", show_header=False, title_justify="left")
    if steps:
        first, last = steps[0], steps[-1]
        table.add_row("reward, first → last step", f"{first['reward/mean']:.3f} → {last['reward/mean']:.3f}")
        for grader in GRADERS:
            key = f"reward/{grader}_accuracy"
            table.add_row(f"solver accuracy by {grader}", f"{sum(s[key] for s in steps) / len(steps):.3f}")
        leaks = f"{first['guideline/leak']:.1%} → {last['guideline/leak']:.1%}"
        table.add_row("guidelines that leak the gold, first → last step", leaks)
        if "guideline/repeated" in last:
            table.add_row("guidelines that are the same for several problems", f"{last['guideline/repeated']:.1%}")
        if uplifts := [s["reward/uplift"] for s in steps if "reward/uplift" in s]:
            table.add_row("accuracy over no guideline, first → last step", f"{uplifts[0]:+.3f} → {uplifts[-1]:+.3f}")
        if (found := signal_of_steps(steps)) is not None and not math.isnan(found.share):
            table.add_row("share of the reward's variance that the guideline explains", f"{found.share:.0%}")
        checked = [s["validation/accuracy"] for s in steps if "validation/accuracy" in s]
        if checked:
            table.add_row("validation accuracy", f"{checked[-1]:.3f}")
        for kind in ("guideline", "solution"):
            share = sum(s[f"{kind}/truncated"] for s in steps) / len(steps)
            table.add_row(f"{kind}s truncated", f"{share:.0%}")
        if any(lost := [s.get("reward/lost_rollouts", 0.0) for s in steps]):
            lone = sum(s.get("reward/lone_groups", 0.0) for s in steps) / len(steps)
            table.add_row(
                "rollouts without verdict",
                f"{sum(lost) / len(lost):.1%} of all, {max(lost):.1%} of a step at most; for lack of a second verdict "
                f"{lone:.1%} of the groups taught nothing",
            )
        phases = {**IN_STEP, **AFTER_STEP}
        spent = {what: sum(s.get(seconds_metric(name), 0.0) for s in steps) for name, what in phases.items()}
        table.add_row("seconds", ", ".join(f"{name} {value:.0f}" for name, value in spent.items() if value >= 0.5))
        for name, words in cost_rows(steps).items():
            table.add_row(name, words)
        table.add_row("alarms", Text("\n".join(map(str, alarms)) or "none", style="yellow" if alarms else ""))
    table.add_row("checkpoints", directory)
    return table
