"""The tables of `estimate --gpus`: each mode on each number of GPUs, and what the fastest ones' steps consist of."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from guidelines_core.config.compose import compose
from guidelines_core.hardware.scale import Plan, Scale
from guidelines_core.hardware.shapes import Gpu
from guidelines_core.hardware.timing import typical_lengths


def report(name: str, overrides: Sequence[str], gpu: Gpu, counts: Sequence[int], console: Console) -> None:
    """Print what a step takes on `counts` GPUs, with the experiment's batch and with one that grows with the GPUs.

    Raises:
        ConfigError: a number of GPUs, the solver or a model is not as expected.
    """
    lengths = typical_lengths(compose(name, overrides))
    scale = Scale(name, overrides, gpu, lengths)
    for grown in (False, True):
        found = {count: list(scale.plans(count, grown)) for count in counts}
        batch = "a batch that grows with the GPUs" if grown else "the experiment's batch"
        console.print(modes(f"{name}, {batch}, {gpu.name}", found))
        if any(found.values()):
            console.print(parts(f"Seconds of the fastest sync step, and of the fastest a step ahead: {batch}", found))
    console.print(
        f"Prompt + guideline + solution: {lengths.prompt} + {lengths.guideline} + {lengths.solution} tokens. "
        "An estimate: more than two GPUs were not measured, and the network's figures are its hardware's own."
    )


def modes(title: str, found: dict[int, list[Plan]]) -> Table:
    """Return the table of each number of GPUs' modes, each with its fastest division."""
    table = Table(title=title, caption="GPUs for training + solver + rollout, or training + both, or all in turns")
    for column in ("GPUs", "rollouts", "mode", "divided", "s", "rollouts/s", "limit"):
        table.add_column(column, no_wrap=column not in ("mode", "limit"))
    for count, rows in found.items():
        if not rows:
            none = "no division's training GPUs divide the rollouts"
            table.add_row(str(count), "", none, "", "", "", "the batch", end_section=True)
        for row in rows:
            table.add_row(str(count), f"{row.rollouts:,}", row.mode.name, row.gpus, f"{row.terms.step:.1f}",
                          f"{row.rollouts / row.terms.step:.0f}", row.terms.limit,
                          end_section=row is rows[-1])  # fmt: skip
    return table


def parts(title: str, found: dict[int, list[Plan]]) -> Table:
    """Return the table of the seconds of the fastest step that is strict, and of the fastest that is not, by part."""
    chosen = [
        (count, min(rows, key=lambda plan: plan.terms.step))
        for count, plans in found.items()
        for ahead in (False, True)
        if (rows := [plan for plan in plans if plan.terms.ahead == ahead])
    ]
    table = Table(title=title, caption="a step ahead takes the longer of its two halves")
    table.add_column("")
    for count, plan in chosen:
        table.add_column(f"{count}\n{'ahead' if plan.terms.ahead else 'sync'}", justify="right")
    for half in ("generating", "training"):
        seconds = [getattr(plan.terms, half) for _, plan in chosen]
        for part in seconds[0]:
            table.add_row(part, *(f"{each[part]:.2f}" for each in seconds))
        table.add_row(half, *(f"{sum(each.values()):.2f}" for each in seconds), style="bold", end_section=True)
    table.add_row("network, hidden by computing", *(f"{plan.terms.hidden:.2f}" for _, plan in chosen))
    return table
