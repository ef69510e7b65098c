"""How often the graders, and math-verify alone, agree with verdicts decided by hand: tables by kind and by source.

    python analysis/grader_agreement.py [FILE.tsv | FILE.jsonl …] [--json [FILE]]

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

from analysis.pages import output
from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.paths import ROOT

Row = dict[str, str]
Counts = dict[str, dict[str, dict[str, int]]]
"""By a value of a column, then by grader: cases, agreed, false_correct."""


def main() -> int:
    """Grade each file, print its tables and every disagreement of the judge; 0, or 1 for a false "correct"."""
    parser = argparse.ArgumentParser(description="Agreement of the graders with verdicts decided by hand.")
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / "tests/support/grading_corpus.tsv"])
    output.add_json(parser)
    options = parser.parse_args()
    with GradingPool(deadline=60) as pool:
        results = {file.name: report(file, pool, output.console(options)) for file in options.files}
    output.write_json(options, results)
    return int(any(result["kind"]["all"]["math_verify"]["false_correct"] for result in results.values()))


def report(file: Path, pool: GradingPool, console: Console) -> dict[str, Counts]:
    """Grade one file, print its tables, and return the counts of each."""
    rows = read(file)
    verdicts = [future.result() for future in [pool.submit(row["gold"], row["solution"]) for row in rows]]
    judged = {name: [verdict[name].correct for verdict in verdicts] for name in GRADERS}
    judged["plain"] = [bool(verify(parse(f"${row['gold']}$"), parse(row["solution"]))) for row in rows]
    console.print(file.name)
    keys = ("kind", "source" if "source" in rows[0] else "sure")
    found = {key: counts(key, rows, judged) for key in keys}
    for key, counted in found.items():
        console.print(table(key, counted))
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict["math_verify"].correct != (row["verdict"] == "correct"):
            console.print(f"{row['verdict']}, not {verdict['math_verify']}: {row}")
    return found


def read(file: Path) -> list[Row]:
    """Return the rows of a file, each with a verdict; in a TSV file, ⏎ stands for a line break."""
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".jsonl":
            reports = map(json.loads, lines)
            return [{**row, "verdict": "correct" if row["expected"] else "wrong"} for row in reports]
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{key: value.replace("⏎", "\n") for key, value in row.items()} for row in rows]


def counts(key: str, rows: list[Row], judged: dict[str, list[bool]]) -> Counts:
    """Return each grader's cases, agreements and false "correct" verdicts, by the value of `key` and in all."""
    found: Counts = {}
    for value in [*sorted({row[key] for row in rows}), "all"]:
        chosen = [index for index, row in enumerate(rows) if value in (row[key], "all")]
        found[value] = {}
        for name, correct in judged.items():
            pairs = [(rows[index]["verdict"] == "correct", correct[index]) for index in chosen]
            agreed, false_correct = sum(a == b for a, b in pairs), sum(b and not a for a, b in pairs)
            found[value][name] = {"cases": len(pairs), "agreed": agreed, "false_correct": false_correct}
    return found


def table(key: str, counted: Counts) -> Table:
    """Return a row for each value of `key`, and one for all."""
    graders = counted["all"]
    result = Table(key, *graders)
    for value, of_graders in counted.items():
        cells = []
        for count in of_graders.values():
            false = f", {count['false_correct']} false correct" if count["false_correct"] else ""
            cells.append(f"{count['agreed']}/{count['cases']}{false}")
        result.add_row(value, *cells)
    result.add_row("agreement", *(f"{count['agreed'] / count['cases']:.1%}" for count in graders.values()))
    return result


if __name__ == "__main__":
    sys.exit(main())
