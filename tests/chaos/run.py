"""Does a run survive? Kills its processes, fills its disk, takes its store away, breaks its checkpoints; then resumes.

    python -m tests.chaos.run --runs 20 --seed 0 [--only WORD …] [--limit N] [--out analysis/results/chaos.json]

Each row is a tiny run of six steps (`loop.py`) with a checkpoint every second one, compared at its end with one
that nothing happened to. Who is killed, and when, is drawn from the seed and the row's number. A row that the JSON
holds of this commit is not run again, so the whole, forty minutes on two cores, can be done in several calls. Filling
the disk mounts one, making a store read-only uses `chattr`: both need root. Exit codes: 0 every row passed, 1 one did
not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from guidelines_core.paths import ROOT
from guidelines_core.runs.provenance import provenance
from guidelines_core.terminal import plain_console
from tests.chaos.faults import TWO_STARTS, rows
from tests.chaos.loop import Loop
from tests.chaos.outcomes import Row, unbroken
from tests.chaos.pressure import pressure_rows

out = plain_console()


def main() -> int:
    """Do the rows that are not done yet, write the JSON after each, print the table; return the exit code."""
    arguments = parse_arguments()
    # A call that is cut off ends its run, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = results_of(provenance(), arguments.out)
    every = {**rows(arguments.seed, arguments.runs), **pressure_rows()}
    wanted = {name: act for name, act in every.items() if not arguments.only or name in arguments.only}
    todo = [name for name in wanted if name not in results["rows"]][: arguments.limit]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if set(todo) - {TWO_STARTS} and "unbroken" not in results:
        results["unbroken"] = unbroken(arguments.folder / "unbroken")
        save(arguments.out, results)
    expected = {name: {int(s): v for s, v in steps.items()} for name, steps in results.get("unbroken", {}).items()}
    for name in todo:
        out.print(f"{name} …")
        folder = arguments.folder / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        loop = Loop(folder)
        try:
            row = wanted[name](loop, expected)
        finally:
            loop.end()
        results["rows"][name] = {**row, "seconds": round(time.monotonic() - began)}
        save(arguments.out, results)
        shutil.rmtree(folder, ignore_errors=True)
    out.print(as_table(results["rows"]))
    return 0 if all(row["passed"] for row in results["rows"].values()) else 1


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description="Break runs in every way we can think of and resume them.")
    parser.add_argument("--runs", type=int, default=20, help="how many processes to kill, each in a run of its own")
    parser.add_argument("--seed", type=int, default=0, help="draws whom and when")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone, by their names")
    parser.add_argument("--limit", type=int, help="do so many rows and leave the rest to the next call")
    parser.add_argument("--out", type=Path, default=ROOT / "analysis/results/chaos.json")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "guidelines_chaos")
    return parser.parse_args()


def results_of(machine: dict[str, str], path: Path) -> dict[str, Any]:
    """Return the results in the JSON, without rows if it has none or those of another commit."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    commit = "mlflow.source.git.commit"
    same = results.get("machine", {}).get(commit) == machine[commit]
    return results if same else {"machine": machine, "rows": {}}


def save(path: Path, results: dict[str, Any]) -> None:
    """Write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def as_table(found: dict[str, Row]) -> Table:
    """Return the rows as a table."""
    kills = [row for name, row in found.items() if name.startswith("kill ")]
    title = f"{sum(row['recovered'] for row in found.values())} of {len(found)} recovered"
    if kills:
        title += f"; {sum(row['passed'] for row in kills)} of {len(kills)} kills passed"
    table = Table(title=title, title_justify="left")
    for column in (
        "row", "what", "when", "after step", "status seen", "lost", "left", "half", "recovered", "metrics equal",
    ):  # fmt: skip
        table.add_column(column)
    for name, row in found.items():
        differing = row.get("differing_metrics")
        table.add_row(
            name, row["what"], row["when"], str(row.get("after_step", "")), row.get("status", ""),
            str(row.get("steps_lost", "")), str(len(row.get("leftovers", []))),
            str(len(row.get("half_checkpoints", []))), "yes" if row["recovered"] else "NO",
            "" if differing is None else "no: " + ", ".join(differing[:3]) if differing else "yes",
            style="" if row["passed"] else "red",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
