"""What a step takes on many GPUs, in verl's modes `sync` and `separate_async`, and what limits it.

    python -m analysis.scale --name NAME --gpus N,N,… [--gpu H100|H200|A100] [--flops F --bandwidth B --memory GIB] \
        [key=value …]

For each mode it prints the fastest division of the GPUs that preflight accepts and that has the memory, or why there is
none, and the parts of the fastest steps. An estimate (`diagnosis/divisions`, `guidelines_core/hardware/scale.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from analysis.diagnosis.divisions import Plan, Refused, Scale, check_nodes
from guidelines_core.config.compose import ConfigError
from guidelines_core.hardware.estimate import add_gpu_arguments, chosen_gpu
from guidelines_core.terminal import plain_console, replace_unprintable

Found = dict[int, list[Plan | Refused]]
"""The modes by number of GPUs."""


def report(title: str, scale: Scale, counts: Sequence[int], console: Console) -> None:
    """Print what a step takes on `counts` GPUs, with the experiment's batch and with one that grows with the GPUs.

    Raises:
        ConfigError: a number of GPUs is not as expected.
    """
    for grown in (False, True):
        found = {count: list(scale.plans(count, grown)) for count in counts}
        batch = "a batch that grows with the GPUs" if grown else "the experiment's batch"
        console.print(modes(f"{title}, {batch}", found))
        if any(isinstance(row, Plan) for rows in found.values() for row in rows):
            console.print(parts(f"Seconds of the fastest sync step, and of the fastest a step ahead: {batch}", found))
    lengths = scale.lengths
    console.print(
        f"Prompt + guideline + solution: {lengths.prompt} + {lengths.guideline} + {lengths.solution} tokens. "
        "An estimate: more than two GPUs were not measured, and the network's figures are its hardware's own."
    )


def modes(title: str, found: Found) -> Table:
    """Return the table of each number of GPUs' modes, each with its fastest division, or why it has none."""
    table = Table(title=title, caption="GPUs for training + solver + rollout, or training + both, or all in turns")
    for column in ("GPUs", "rollouts", "mode", "divided", "s", "rollouts/s", "limit"):
        table.add_column(column, no_wrap=column not in ("mode", "limit"), overflow="fold")
    for count, rows in found.items():
        for row in rows:
            last = row is rows[-1]
            if isinstance(row, Refused):
                table.add_row(str(count), "", row.mode.name, "refused", "", "", row.why, end_section=last)
                continue
            table.add_row(str(count), f"{row.rollouts:,}", row.mode.name, row.gpus, f"{row.terms.step:.1f}",
                          f"{row.rollouts / row.terms.step:.0f}", row.terms.limit, end_section=last)  # fmt: skip
    return table


def parts(title: str, found: Found) -> Table:
    """Return the table of the seconds of the fastest step that is strict, and of the fastest that is not, by part."""
    chosen = [
        (count, min(rows, key=lambda plan: plan.terms.step))
        for count, divided in found.items()
        for ahead in (False, True)
        if (rows := [plan for plan in divided if isinstance(plan, Plan) and plan.terms.ahead == ahead])
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


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison that the command line asks for and return the exit code: 0, or 2 if refused."""
    parser = argparse.ArgumentParser(prog="python -m analysis.scale", description="What a step takes on many GPUs.")
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument("--gpus", type=_numbers, metavar="N,N", required=True, help="the numbers of GPUs to compare")
    add_gpu_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the composed configuration")
    options = parser.parse_intermixed_args(arguments)
    gpu = chosen_gpu(options)
    try:
        for count in options.gpus:
            check_nodes(count)
        scale = Scale(options.name, options.overrides, gpu)
        report(f"{options.name}, {gpu.name}", scale, options.gpus, plain_console())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
