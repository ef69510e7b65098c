"""Measures what recording costs a run's steps, in one run of an experiment, as a table and as JSON.

    python -m analysis.bench.recording [--name quickstart] [--out recording.json] [key=value …]

In the step itself the trainer makes the graded rows, their metrics and their file (`timing_s/record`). Everything else
is done beside the steps by `run.py`, whose CPU seconds are counted: journal, alarms, traces, cost, copies to MLflow,
the line of progress, the watch over the run's processes. The run has its own folder and MLflow store.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.table import Table

from analysis.bench.child import exit_code, measured_process
from guidelines_core.paths import ROOT
from guidelines_core.runs.journal import STEP, Journal
from guidelines_core.runs.phases import RECORD, seconds_metric
from guidelines_core.runs.provenance import provenance
from guidelines_core.terminal import plain_console

WANTED = 0.02
"""The share of a step that recording may cost, at most."""


@dataclass(frozen=True)
class Recorded:
    """A step's record as seen from outside.

    Attributes:
        at: when it was written, in seconds since 1970.
        cpu_s: CPU seconds of `run.py` by then.
        in_step_s: seconds of the step that went into recording it.
    """

    at: float
    cpu_s: float
    in_step_s: float


def main() -> int:
    """Run, measure, print; return the run's exit code, 1 if it ended before its second step."""
    parser = argparse.ArgumentParser(description="What recording costs a run's steps.")
    parser.add_argument("--name", default="quickstart", help="the experiment (default %(default)s)")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, too")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="bench-recording-") as folder:
        code, steps, end_cpu_s = measure(Path(folder), options.name, options.overrides)
    if code or len(steps) < 2:
        print(f"the run ended with exit code {code} after {len(steps)} steps: nothing is measured", file=sys.stderr)
        return code or 1
    found = figures(steps, end_cpu_s)
    plain_console().print(as_table(found))
    if options.out:
        command = " ".join(["python", "-m", "analysis.bench.recording", "--name", options.name, *options.overrides])
        result = {"command": command, "machine": provenance(), "figures": found, "wanted": WANTED}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(folder: Path, name: str, overrides: Sequence[str]) -> tuple[int, list[Recorded], float]:
    """Run experiment `name` in `folder`; return its exit code, its steps, and `run.py`'s CPU seconds at its end."""
    words = ["--name", name, f"trainer.default_local_dir={folder / 'run'}", *overrides]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    cpu_s, steps = 0.0, list[Recorded]()
    journal = Journal(folder / "run/logs/attempt-1.jsonl")
    with measured_process([sys.executable, str(ROOT / "experiments/run.py"), *words], env=environment) as run:
        watched = psutil.Process(run.pid)
        while run.poll() is None:
            # Of a process that has just ended there is no more to read.
            if watched.status() != psutil.STATUS_ZOMBIE:
                cpu_s = sum(watched.cpu_times()[:2])
            entries = journal.entries() if journal.path.exists() else []
            steps += [
                Recorded(time.time(), cpu_s, entry.metrics[seconds_metric(RECORD)])
                for entry in entries
                if STEP in entry.metrics
            ]
            time.sleep(0.05)
    return run.returncode, steps, cpu_s


def figures(steps: Sequence[Recorded], end_cpu_s: float) -> dict[str, float]:
    """Return seconds a step from the first step's record to the last one's, and their shares of a step.

    What `run.py` does after the last record, `end_cpu_s` being its CPU seconds by its end, is spread over all steps.
    """
    first, last, between = steps[0], steps[-1], len(steps) - 1
    step_s = (last.at - first.at) / between
    found = {
        "in_step_s": sum(step.in_step_s for step in steps[1:]) / between,
        "beside_cpu_s": (last.cpu_s - first.cpu_s) / between,
        "end_cpu_s": (end_cpu_s - last.cpu_s) / len(steps),
    }
    total = sum(found.values())
    shares = {f"{name.removesuffix('_s')}_share": seconds / step_s for name, seconds in found.items()}
    return {"steps": len(steps), "step_s": step_s, **found, **shares, "share": total / step_s}


def as_table(found: dict[str, float]) -> Table:
    """Return the figures with the target."""
    table = Table("", "seconds a step", "share of a step", title=f"Recording of {found['steps']:.0f} steps")
    rows = {
        "the step, validation and checkpoint included": ("step_s", None),
        "in the step: graded rows, their metrics and file": ("in_step_s", "in_step_share"),
        "beside it: CPU of run.py": ("beside_cpu_s", "beside_cpu_share"),
        "after the last step: CPU of run.py": ("end_cpu_s", "end_cpu_share"),
    }
    for name, (seconds, share) in rows.items():
        table.add_row(name, f"{found[seconds]:.3f}", f"{found[share]:.2%}" if share else "")
    table.add_section()
    table.add_row("together", "", f"{found['share']:.2%} (wanted: {WANTED:.0%} at most)")
    return table


if __name__ == "__main__":
    sys.exit(exit_code(main))
