"""The table of a committed benchmark, on any machine.

    python -m analysis.bench.table analysis/results/update-h200.json

FILE is what `benchmark.py`, `analysis.bench.update` or `analysis.bench.solver` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from guidelines_core.runs.phases import IN_STEP
from guidelines_core.terminal import plain_console

PHASES = (*IN_STEP, "step")
"""The rows of a benchmark of whole steps: the phases that an arm has, and the step."""

MODEL_PHASES = ("old_log_prob", "ref", "update_actor")
"""The phases in which the trained model's FLOPs are counted."""

UPDATE_PHASES = ("old_log_prob", "ref", "update")
"""The phases of a step's training side."""


def main() -> int:
    """Print the table of the file that the command line names, and its note."""
    parser = argparse.ArgumentParser(description="Print a benchmark's table.")
    parser.add_argument("file", type=Path, help="a JSON of analysis/results/")
    file = parser.parse_args().file
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{file}: it cannot be read ({error}); expected a JSON of analysis/results/")
    if not isinstance(result, dict) or not result.keys() & {"arms", "server_start_s"}:
        parser.error(f"{file}: it has no arms; expected what analysis/benchmark.py or analysis.bench.update wrote")
    console = plain_console()
    console.print(table(result))
    if "note" in result:
        console.print(result["note"])
    return 0


def table(result: Mapping[str, Any]) -> Table:
    """Return the table of a benchmark's result."""
    if "server_start_s" in result:
        return solver_table(result)
    return update_table(result) if any("even" in arm for arm in result["arms"]) else step_table(result)


def step_table(result: Mapping[str, Any]) -> Table:
    """Return a column for each arm: its seconds by phase, ratios to the first arm and to the floor, GPU load.

    `solver_unhidden` are the seconds in which only the solver works; memory and idle share are a figure for each GPU.
    """
    arms = result["arms"]
    done = [entry for entry in arms if "failed" not in entry]
    table = Table("seconds", title=f"{result['gpu']} x {result['gpu_count']}")
    for entry in arms:
        table.add_column(entry["name"], justify="right", overflow="fold")
    for phase in PHASES:
        if any(phase in entry["phases"] for entry in done):
            table.add_row(phase, *(_shown(entry.get("phases", {}), phase, ".2f") for entry in arms))
    for name, form in (("solver_unhidden_s", ".2f"), ("launch_to_first_step_s", ".0f")):
        table.add_row(name.removesuffix("_s"), *(_shown(entry, name, form) for entry in arms))
    table.add_section()
    table.add_row("step, of the first arm's", *(_shown(entry, "ratio_to_first", ".2f") for entry in arms))
    table.add_row("step, of its floor", *(_shown(entry, "ratio_to_floor", ".1f") for entry in arms))
    table.add_row("estimate", *(_shown(entry.get("estimate", {}), "step", ".2f") for entry in arms))
    table.add_row("  its error", *(_shown(entry, "estimate_off", "+.0%") for entry in arms))
    for phase in MODEL_PHASES:
        table.add_row(f"MFU {phase}", *(_shown(entry.get("mfu", {}), phase, ".0%") for entry in arms))
    table.add_row("  of TFLOP/s", *(f"{e['peak_flops'] / 1e12:.0f}" if "peak_flops" in e else "" for e in arms))
    for name, form in (("rollout_tokens_per_s", ",.0f"), ("solver_tokens_per_s", ",.0f"), ("padded_share", ".0%")):
        table.add_row(name, *(_shown(entry, name, form) for entry in arms))
    for name, form in (("memory_gib", ".0f"), ("idle_share", ".0%")):
        table.add_row(name, *(" ".join(_shown(gpu, name, form) for gpu in entry.get("gpus", [])) for entry in arms))
    if any("extrapolated" in entry for entry in done):
        table.add_row("extrapolated from", *(entry.get("extrapolated", {}).get("from", "") for entry in arms))
    if len(done) < len(arms):
        table.add_row("failed", *(entry.get("failed", "") for entry in arms), style="red")
    return table


def _shown(figures: Mapping[str, Any], name: str, form: str) -> str:
    """Return a figure as text, nothing where it was not measured."""
    return format(figures[name], form) if name in figures else ""


def update_table(result: Mapping[str, Any]) -> Table:
    """Return each arm's seconds and MFU by phase, memory, and speed as a multiple of the first arm's.

    `off` is how far the log-probs are from another arm's on average, `of TFLOP/s` what MFU is a share of."""
    names = [f"{phase} s" for phase in UPDATE_PHASES]
    table = Table("arm", "workload", *names, "sum", "x", "MFU", "of TFLOP/s", "padded", "GiB", "off", "grad", "failed",
                  title=result["gpu"])  # fmt: skip
    first: dict[str, float] = {}
    for entry in result["arms"]:
        for workload in [name for name in ("even", "tailed") if entry.get(name)] or [""]:
            phases = entry.get(workload, {})
            whole = sum(figures["s"] for figures in phases.values())
            complete = set(phases) == set(UPDATE_PHASES)
            if complete:
                first.setdefault(workload, whole)
            off = next((entry[key]["mean"] for key in entry if key.startswith("log_probs_off_")), None)
            table.add_row(
                entry["name"],
                workload,
                *(f"{phases[name]['s']:.2f}" if name in phases else "" for name in UPDATE_PHASES),
                f"{whole:.2f}" if complete else "",
                f"{first[workload] / whole:.2f}" if complete else "",
                " ".join(f"{phases[name]['mfu']:.0%}" for name in UPDATE_PHASES if name in phases),
                f"{entry['peak_flops'] / 1e12:.0f}",
                f"{phases['update']['padded_share']:.0%}" if "update" in phases else "",
                f"{max(figures['peak_gib'] or 0 for figures in phases.values()):.0f}" if phases else "",
                "" if off is None else f"{off:.1e}",
                f"{entry['grad_norm']:.3g}" if entry.get("grad_norm") else "",
                entry.get("failed", "")[:60],
            )
    return table


def solver_table(result: Mapping[str, Any]) -> Table:
    """Return the seconds of a step's solutions, each arm's and as a multiple of the last one's."""
    arms = result["arms"]
    table = Table("arm", "in flight", "asked", "s", "s a step", "tokens a solution", "tokens/s", "x",
                  title=f"{result['gpu']} x {result['gpu_count']}, {result['requests']} solutions a step")  # fmt: skip
    for arm in arms:
        table.add_row(
            arm["name"],
            str(arm["in_flight"]),
            str(arm["requests"]),
            f"{arm['s']:.2f}",
            f"{arm['s_per_step']:.2f}" + (" (extrapolated)" if arm["extrapolated"] else ""),
            f"{arm['tokens_per_solution']:.0f}",
            f"{arm['tokens_per_s']:,}",
            f"{arm['s_per_step'] / arms[-1]['s_per_step']:.1f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
