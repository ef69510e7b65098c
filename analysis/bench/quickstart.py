"""Measures time and memory of one quickstart run, from the command to its end, as a table and as JSON.

    python -m analysis.bench.quickstart [--out analysis/results/quickstart.json] [key=value …]

The run has its own folder and MLflow store. The installation is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rich.table import Table

from analysis.bench.child import exit_code, measured_process
from guidelines_core.paths import ROOT
from guidelines_core.runs.journal import STEP
from guidelines_core.runs.provenance import provenance
from guidelines_core.terminal import plain_console

WANTED = {
    "first_step_s": 120.0,
    "run_s": 360.0,
    "peak_pss_gb": 12.0,
    "guidelines_truncated": 0.2,
    "solutions_truncated": 0.2,
}


def main() -> int:
    """Run, measure, print; return the run's exit code."""
    parser = argparse.ArgumentParser(description="Time and memory of one fresh quickstart run.")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, too")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-quickstart-") as folder:
        code, figures = measure(Path(folder), arguments.overrides)
    plain_console().print(as_table(figures))
    if arguments.out:
        command = " ".join(["python", "-m", "analysis.bench.quickstart", *arguments.overrides])
        result = {"command": command, "machine": provenance(), "figures": figures, "wanted": WANTED}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return code


def measure(folder: Path, overrides: list[str]) -> tuple[int, dict[str, float]]:
    """Return the exit code and the figures (seconds, GB, shares) of one quickstart run in `folder`."""
    began = time.time()
    words = ["--name", "quickstart", f"trainer.default_local_dir={folder / 'run'}", *overrides]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    first_step: list[float] = []
    journal = folder / "run" / "logs" / "attempt-1.jsonl"

    def see_first_step(run: subprocess.Popen[bytes]) -> None:
        while run.poll() is None and not first_step:
            if journal.exists() and STEP in journal.read_text():
                first_step.append(time.time() - began)
            time.sleep(0.1)

    peak = 0.0
    with measured_process([sys.executable, str(ROOT / "experiments/run.py"), *words], env=environment) as run:
        watcher = threading.Thread(target=see_first_step, args=(run,))
        watcher.start()
        while run.poll() is None:
            peak = max(peak, tree_pss(run.pid))
            time.sleep(5)
    watcher.join()
    seconds = time.time() - began
    if run.returncode != 0:
        return run.returncode, {"run_s": seconds, "peak_pss_gb": peak}
    steps = [json.loads(line)["data"] for line in journal.read_text().splitlines()]
    steps = [step for step in steps if "training/global_step" in step]

    def mean(key: str) -> float:
        return float(sum(step[key] for step in steps) / len(steps))

    return 0, {
        "first_step_s": first_step[0],
        "run_s": seconds,
        "peak_pss_gb": peak,
        "steps": float(len(steps)),
        "rollouts_per_step": mean("reward/graded"),
        "later_step_s": sum(step["timing_s/step"] for step in steps[1:]) / max(len(steps) - 1, 1),
        "guidelines_truncated": mean("guideline/truncated"),
        "solutions_truncated": mean("solution/truncated"),
        "reward": mean("reward/mean"),
        "rollout_probs_diff_max": max(step["training/rollout_probs_diff_max"] for step in steps),
    }


def tree_pss(pid: int) -> float:
    """Return the proportional set size, in GB, of process `pid` and all its descendants."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in processes:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024 / 1e9


def as_table(figures: dict[str, float]) -> Table:
    """Return the figures and their targets."""
    table = Table("figure", "measured", "wanted")
    for name, value in figures.items():
        wanted = f"<= {WANTED[name]:g}" if name in WANTED else ""
        table.add_row(name, f"{value:.3g}" if value < 10 else f"{value:.1f}", wanted)
    return table


if __name__ == "__main__":
    sys.exit(exit_code(main))
