"""How often the graders, and math-verify alone, agree with verdicts decided by hand: tables by kind and by source.

    python analysis/grader_agreement.py [FILE.tsv | FILE.jsonl …]

Each FILE is a set of its own. A TSV file, as the corpus (tests/support/grading_corpus.tsv, the default), has the
columns source, kind, verdict, gold and solution; a JSONL file of reports has gold, solution, expected (true or false),
kind and sure. "Plain" is math-verify as its own documentation shows it, with its own time limit. A cell says
agreed/cases, then how many wrong answers were called correct. Exits 1 if the configured judge calls a wrong answer
correct.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from math_verify import parse, verify  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.paths import ROOT

Row = dict[str, str]


def main() -> int:
    """Grade each file, print its tables and every disagreement of the judge; 0, or 1 for a false "correct"."""
    parser = argparse.ArgumentParser(description="Agreement of the graders with verdicts decided by hand.")
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / "tests/support/grading_corpus.tsv"])
    with GradingPool(deadline=60) as pool:
        return max(report(file, pool) for file in parser.parse_args().files)


def report(file: Path, pool: GradingPool) -> int:
    """Grade one file and print what came out; 1 for a false "correct", else 0."""
    rows, console = read(file), Console()
    verdicts = [future.result() for future in [pool.submit(row["gold"], row["solution"]) for row in rows]]
    judged = {name: [verdict[name].correct for verdict in verdicts] for name in GRADERS}
    judged["plain"] = [bool(verify(parse(f"${row['gold']}$"), parse(row["solution"]))) for row in rows]
    console.print(file.name, markup=False)
    for key in ("kind", "source" if "source" in rows[0] else "sure"):
        console.print(table(key, rows, judged))
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict["math_verify"].correct != (row["verdict"] == "correct"):
            console.print(f"{row['verdict']}, not {verdict['math_verify']}: {row}", markup=False)
    pairs = zip(rows, judged["math_verify"], strict=True)
    return int(any(correct and row["verdict"] != "correct" for row, correct in pairs))


def read(file: Path) -> list[Row]:
    """Return the rows of a file, each with a verdict; in a TSV file, ⏎ stands for a line break."""
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".jsonl":
            reports = map(json.loads, lines)
            return [{**row, "verdict": "correct" if row["expected"] else "wrong"} for row in reports]
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{key: value.replace("⏎", "\n") for key, value in row.items()} for row in rows]


def table(key: str, rows: list[Row], judged: dict[str, list[bool]]) -> Table:
    """Return a row for each value of `key`, and one for all."""
    result = Table(key, *judged)
    for value in [*sorted({row[key] for row in rows}), "all"]:
        chosen = [index for index, row in enumerate(rows) if value in (row[key], "all")]
        cells = []
        for correct in judged.values():
            pairs = [(rows[index]["verdict"] == "correct", correct[index]) for index in chosen]
            agreed, false_correct = sum(a == b for a, b in pairs), sum(b and not a for a, b in pairs)
            cells.append(f"{agreed}/{len(pairs)}" + (f", {false_correct} false correct" if false_correct else ""))
        result.add_row(value, *cells)
    right = [row["verdict"] == "correct" for row in rows]
    shares = [sum(a == b for a, b in zip(right, correct, strict=True)) / len(rows) for correct in judged.values()]
    result.add_row("agreement", *(f"{share:.1%}" for share in shares))
    return result


if __name__ == "__main__":
    sys.exit(main())
