"""What a run's own directory says of its learning, as a table and a JSON: for a run whose store is out of reach.

    python -m analysis.bench.curve RUN_DIRECTORY [--window 4] [--gpu NAME] [--command TEXT] [--out FILE]

It reads `logs/attempt-*.jsonl` and `rows/validation_*.parquet`. The table has the means of each `--window` steps. The
last validation is compared with the first on the problems that both have. Exit codes: 0 done, 2 refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from analysis.stats.intervals import compare_paired
from guidelines_core.runs.journal import STEP, Entry, Journal, attempts, history
from guidelines_core.terminal import plain_console

METRICS = {
    "reward/mean": "reward",
    "reward/uplift": "uplift",
    "guideline/leak": "leaks",
    "guideline/repeated": "same",
    "guideline/tokens": "guideline tokens",
    "solution/tokens": "solution tokens",
    "reward/mixed_groups": "mixed groups",
    "signal/between_guidelines": "between",
    "signal/within_guideline": "within",
    "actor/kl_loss": "KL",
    "actor/entropy": "entropy",
    "timing_s/step": "s a step",
}
"""The curve's metrics, and how the table calls them."""

COSTS = (
    "timing_s/gen",
    "timing_s/reward",
    "timing_s/ref",
    "timing_s/update_actor",
    "timing_s/update_weights",
    "perf/mfu/actor",
    "actor/perf/max_memory_allocated_gb",
    "solver/latency_p50_s",
    "training/rollout_probs_diff_mean",
)
"""What the JSON holds of each step beside the curve."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write the JSON and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.bench.curve", description="A run's learning curve.")
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--window", type=int, default=4, help="steps in a row of the table (default %(default)s)")
    parser.add_argument("--gpu", help="the GPU of the run, for the JSON")
    parser.add_argument("--command", help="the command of the run, for the JSON")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    found = learned(options.run)
    if not found["steps"]:
        print(f"{options.run}: no trained step in logs/attempt-*.jsonl; give a run's directory", file=sys.stderr)
        return 2
    plain_console().print(table(windows(pd.DataFrame(found["steps"]), options.window)))
    print(json.dumps(found["validation"], indent=1))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"gpu": options.gpu, "command": options.command, **found}, indent=1) + "\n"
        options.out.write_text(text, encoding="utf-8")
    return 0


def learned(run: Path) -> dict[str, Any]:
    """Return the metrics of a run's start, its validations and its trained steps, from its directory."""
    entries = history(Journal(path).entries() for path in attempts(run))
    files = sorted(run.glob("rows/validation_*.parquet"))
    steps = curve(entries)
    return {
        "start": {name: value for entry in entries for name, value in entry.metrics.items() if "start/" in name},
        "validation": validation([pd.read_parquet(file) for file in files]),
        "steps": steps.astype(object).where(steps.notna(), None).to_dict("records"),
    }


def curve(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return one row a trained step: `step` and those of `METRICS` and `COSTS` that the run has."""
    trained = [{"step": entry.step, **entry.metrics} for entry in entries if STEP in entry.metrics]
    rows = pd.DataFrame(trained, columns=None if trained else ["step"])
    found: pd.DataFrame = rows[["step", *(name for name in (*METRICS, *COSTS) if name in rows)]]
    return found


def windows(steps: pd.DataFrame, size: int) -> pd.DataFrame:
    """Return the means of each `size` steps in a row; `step` is the window's last."""
    grouped = steps.groupby((steps["step"] - 1) // size)
    means: pd.DataFrame = grouped.mean().assign(step=grouped["step"].max())
    return means


def validation(rows: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Return each validation's accuracy, and the paired change from the first to the last."""
    by_problem = [table.groupby("problem_id")["acc"].mean() for table in rows]
    found: dict[str, Any] = {
        "accuracy": [
            {"step": int(table["step"].iloc[0]), "accuracy": float(mean.mean()), "problems": len(mean)}
            for table, mean in zip(rows, by_problem, strict=True)
        ]
    }
    if len(rows) > 1:
        first, last = by_problem[0].align(by_problem[-1], join="inner")
        found["last_over_first"] = asdict(compare_paired(first.to_numpy(), last.to_numpy()))
    return found


def table(rows: pd.DataFrame) -> Table:
    """Return the curve as a table."""
    drawn = Table("to step")
    for name in (name for name in rows.columns if name in METRICS):
        drawn.add_column(METRICS[name], min_width=5, justify="right")
    for _, row in rows.iterrows():
        drawn.add_row(f"{row['step']:.0f}", *(f"{row[name]:.3g}" for name in rows.columns if name in METRICS))
    return drawn


if __name__ == "__main__":
    sys.exit(main())
