"""Measures the start of an experiment: a first and a second start, and a resume, by stage, as a table and as JSON.

    python -m analysis.bench.start --name NAME [--out start.json] [key=value …]

Each start ends after its first step, without validation. The first one is a machine's first only where nothing was
started before: `kept` says what vLLM had kept of earlier ones. Runs and their MLflow store lie in a folder of their own
and are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from analysis.bench.child import exit_code, measured_process
from guidelines_core.paths import ROOT
from guidelines_core.runs.journal import STEP, Journal
from guidelines_core.runs.provenance import provenance
from guidelines_core.runs.start import METRIC, STAGES
from guidelines_core.terminal import plain_console

WANTED = {"first start": 150.0, "second start": 75.0, "resume": 75.0}
"""Seconds from the launch until the first step begins, at most."""

STARTS = (("first start", "a", ()), ("second start", "b", ()), ("resume", "b", ("--resume",)))
"""Each start's name, its run's folder, and its words on the command line."""

MEASURED = ("trainer.total_training_steps=2", "trainer.save_freq=1", "trainer.test_freq=-1",
            "trainer.val_before_train=False")  # fmt: skip
"""What every start here has besides: a step, a checkpoint to resume from, and a step for the resumed run."""

SHOWN = 60
"""Lines of a failed start's output and log that go into the JSON."""

OURS = re.compile(
    r"(warning|error): \S+=|ready after \d+ s: |step \d+ of \d+ · |.* · MLflow run |goes on from |cleared "
)
"""The beginnings of the lines that a start prints until its first step is done."""


def main() -> int:
    """Start three times, print the figures; return 0, or 1 if a start failed."""
    parser = argparse.ArgumentParser(description="How long an experiment takes to start.")
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, too")
    parser.add_argument("--starts", type=int, choices=[1, 2, 3], default=3, help="only the first so many of the three")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="layout, models and data of the experiment")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        starts = measured(Path(folder), options.name, options.overrides, STARTS[: options.starts])
    plain_console().print(as_table(starts))
    if options.out:
        command = " ".join(["python", "-m", "analysis.bench.start", "--name", options.name, *options.overrides])
        result = {"command": command, "machine": provenance(), "starts": starts, "wanted": WANTED}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return int(any("failed" in start for start in starts.values()))


def measured(
    folder: Path, name: str, overrides: Sequence[str], wanted: Sequence[tuple[str, str, tuple[str, ...]]] = STARTS
) -> dict[str, dict[str, Any]]:
    """Return the figures of each start, up to the first that fails."""
    starts: dict[str, dict[str, Any]] = {}
    kept = vllm_kept()
    for label, run, words in wanted:
        starts[label] = one_start(folder, run, name, [*MEASURED, *overrides], words)
        if "failed" in starts[label]:
            break
    starts["first start"]["kept"] = kept
    return starts


def vllm_kept() -> list[str]:
    """Return what vLLM has kept of earlier starts on this machine: the names in its cache's folder."""
    root = Path(os.environ.get("VLLM_CACHE_ROOT", Path.home() / ".cache" / "vllm"))
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


def one_start(folder: Path, run: str, name: str, overrides: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """Start the experiment in `folder`/`run`, end it after its first step, and return its figures in seconds."""
    directory = folder / run
    command = [sys.executable, str(ROOT / "experiments/run.py"), "--name", name, *words, *overrides,
               f"trainer.default_local_dir={directory}"]  # fmt: skip
    attempt = len(list((directory / "logs").glob("attempt-*.jsonl"))) + 1
    journal = directory / "logs" / f"attempt-{attempt}.jsonl"
    said = folder / f"{run}-{attempt}.txt"
    began = time.time()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    with (
        said.open("w") as file,
        measured_process(command, env=environment, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.1)
        # The step that begins now is finished and saved.
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    entries = Journal(journal).entries() if journal.exists() else []
    steps = [entry for entry in entries if STEP in entry.metrics]
    lines = said.read_text(errors="replace").splitlines()
    if not steps or code not in (0, 130):
        log = journal.with_suffix(".log")
        logged = log.read_text(errors="replace").splitlines() if log.exists() else []
        failed = f"exit code {code}: {lines[-1] if lines else 'it said nothing'}"
        return {"failed": failed, "said": lines[-SHOWN:], "log": logged[-SHOWN:]}
    begun = next(entry.metrics for entry in entries if f"{METRIC}total" in entry.metrics)
    first = steps[0]
    return {
        "first_step_begins_s": round(begun[f"{METRIC}total"], 1),
        "stages": {stage: round(begun[METRIC + stage], 1) for stage in STAGES if METRIC + stage in begun},
        "first_step_done_s": round((first.logged_at or time.time()) - began, 1),
        "first_step_s": round(first.metrics["timing_s/step"], 1),
        "noise": noise(lines),
    }


def noise(lines: Sequence[str]) -> list[str]:
    """Return the lines on the terminal that are not the project's, until the first step is done."""
    end = next((number for number, line in enumerate(lines) if line.startswith("step ")), len(lines))
    return [line for line in lines[:end] if line.strip() and not OURS.match(line)]


def as_table(starts: dict[str, dict[str, Any]]) -> Table:
    """Return the starts side by side, by stage, beside what is wanted."""
    table = Table("seconds")
    for label in starts:
        table.add_column(label, justify="right")
    for stage, name in STAGES.items():
        table.add_row(name, *(f"{start.get('stages', {}).get(stage, float('nan')):.1f}" for start in starts.values()))
    table.add_section()
    figures = [start.get("first_step_begins_s") for start in starts.values()]
    table.add_row(
        "launch → first step begins", *("failed" if seconds is None else f"{seconds:.1f}" for seconds in figures)
    )
    table.add_row("wanted", *(f"<= {WANTED[label]:.0f}" for label in starts))
    table.add_row(
        "the first step itself", *(f"{start.get('first_step_s', float('nan')):.1f}" for start in starts.values())
    )
    table.add_row("lines that are not ours", *(str(len(start.get("noise", []))) for start in starts.values()))
    for label, start in starts.items():
        if "failed" in start:
            table.caption = f"{label}: {start['failed']}"
    return table


if __name__ == "__main__":
    sys.exit(exit_code(main))
