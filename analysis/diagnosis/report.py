"""A diagnosis in words and tables: the answer in one sentence, phases, GPUs, findings and changes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.diagnosis.findings import Diagnosis
from analysis.diagnosis.step_time import PHASES
from guidelines_core.launch.console import duration

TRIED = 3
"""How many changes are named."""


def headline(found: Diagnosis) -> str:
    """Return the answer in one sentence."""
    step = found.step
    largest, share = found.longest, step.seconds[found.longest] / step.total
    source = "by the estimate's shares, " if step.estimated else ""
    answer = (
        f"A step takes {duration(step.total)}, {3 * 3600 / step.total:,.0f} steps in 3 hours; {source}"
        f"{share:.0%} of it goes to {largest} ({PHASES[largest]})."
    )
    if not found.changes:
        return answer
    first = found.changes[0]
    return f"{answer} Change first: {' '.join(first.overrides)}, which should save {saving(first.saves)}."


def saving(seconds: float) -> str:
    """Return the seconds that a change saves, to a tenth where they are few."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def findings(found: Diagnosis) -> list[str]:
    """Return the findings, a sentence each: spread of the steps, overlap, padding, slow calls, the whole run."""
    step, (real, padded), lines = found.step, found.padding, []
    if len(found.steps) > 2:
        later = found.steps.iloc[1:]
        low, high = later.quantile(0.05), later.quantile(0.95)
        lines.append(
            f"Step {step.number} is the median of {len(later)} steps after the first, of which 90 % take "
            f"{low:,.1f} to {high:,.1f} s; the first took {found.steps.iloc[0]:,.1f} s."
        )
    if step.calls is not None and found.overlap > 0:
        solving = step.calls["answered"].max() - step.calls["asked"].min()
        lines.append(
            f"Guidelines and solutions were written at the same time for {found.overlap:,.1f} s; "
            f"the solver worked from {step.calls['asked'].min():,.1f} s to {step.calls['answered'].max():,.1f} s "
            f"({solving:,.1f} s)."
        )
    elif step.calls is not None:
        lines.append("Nothing overlaps: the solver begins when the last guideline is written.")
    lines.append(
        f"{real} rollouts are padded to {padded}: {1 - real / padded:.0%} of the sequences trained on are waste."
        if padded > real
        else f"No batch is padded: {real} rollouts fill their mini-batches."
    )
    if found.slow:
        worst = found.slow.calls.iloc[0]
        lines.append(
            f"The slowest 1 % of {found.slow.of:,} solver calls took {found.slow.threshold:,.1f} s or more (the "
            f"slowest {worst['solver_s']:,.1f} s for {worst['solution_tokens']:.0f} tokens); they hold a step up by "
            f"{found.slow.held:,.2f} s."
        )
    if found.whole:
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in found.whole.items() if seconds >= 0.5)
        lines.append(f"The whole run: {parts}.")
    return lines


def report(found: Diagnosis, console: Console) -> None:
    """Print everything."""
    console.print(f"{found.name} ({found.source}) on {found.hardware}", highlight=False, soft_wrap=True)
    console.print(headline(found), style="bold", highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", style="dim", highlight=False, soft_wrap=True)
    console.print(phase_table(found))
    console.print(gpu_table(found))
    for line in findings(found):
        console.print(f"• {line}", highlight=False, soft_wrap=True)
    for words in change_lines(found):
        console.print(words, highlight=False, soft_wrap=True)


def phase_table(found: Diagnosis) -> Table:
    """Return the step's seconds by phase beside the hardware's floor."""
    step = found.step
    title = f"step {step.number}" if step.number else "a step"
    table = Table("phase", "what", title=title, title_justify="left")
    for column in ("s", "share", "floor, s", "x floor"):
        table.add_column(column, justify="right")
    for name, seconds in step.seconds.items():
        floor = found.floor.get(name) or 0.0
        shown = (f"{floor:,.2f}", f"{seconds / floor:,.0f}") if floor >= 0.005 else ("", "")
        table.add_row(name, PHASES[name], f"{seconds:,.1f}", f"{seconds / step.total:.0%}", *shown)
    table.add_row("step", "", f"{step.total:,.1f}", "100%", "", "", style="bold")
    return table


def gpu_table(found: Diagnosis) -> Table:
    """Return how long each GPU pool was busy and idle in the step."""
    table = Table("GPUs", title="how busy the GPUs were", title_justify="left")
    for column in ("busy, s", "idle, s", "idle"):
        table.add_column(column, justify="right")
    for lane in found.lanes:
        idle = lane.idle(found.step.total)
        table.add_row(lane.label, f"{lane.busy:,.1f}", f"{idle * found.step.total:,.1f}", f"{idle:.0%}")
    return table


def change_lines(found: Diagnosis) -> list[Text]:
    """Return what to try first, three lines a change: gain and words for the command line, reason, caveat."""
    if not found.changes:
        return [Text("No change is known that would gain 1 % of the step.")]
    lines = [Text("What would gain most, each taken alone:", "bold")]
    for number, change in enumerate(found.changes[:TRIED], start=1):
        share = change.saves / found.step.total
        lines.append(Text.assemble(f"{number}. ", (" ".join(change.overrides), "bold")))
        lines.append(Text(f"   saves {change.saves:,.1f} s a step ({share:.0%}): {change.why}"))
        if change.caveat:
            lines.append(Text(f"   but {change.caveat}", "dim"))
    return lines
