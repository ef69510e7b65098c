"""Pairs graded a second: this project's pool and plain math-verify in one thread, on the same pairs in one run.

    python -m analysis.bench.grading FILE... [--rounds 3] [--out FILE.json]

A FILE is JSONL, or TSV like tests/support/grading_corpus.tsv, with `gold` and `solution`; or JSONL with `answer` and a
worked `solution`; or JSONL with a worked `answer` that ends in `#### 18`. Both arms have imported SymPy before the
clock starts. They take turns, and a round is one pass over every pair by each. The pool's arm is the whole way of a
pair: finding the answer, both graders' verdicts, and the process that can be killed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from math_verify import parse, verify  # type: ignore[import-untyped]
from rich.table import Table

from guidelines_core.grading.pool import GradingPool
from guidelines_core.terminal import plain_console

Pair = tuple[str, str]


def main() -> int:
    """Time both arms on every file and print a table; 0."""
    parser = argparse.ArgumentParser(description="Pairs a second: the pool against plain math-verify in one thread.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each arm (default: 3); the median counts")
    parser.add_argument("--workers", type=int, default=2, help="processes of the pool (default: 2)")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, too")
    options = parser.parse_args()
    table = Table("file", "pairs", "plain/s", "pool/s", "ratio", "correct plain", "correct pool")
    figures = []
    with GradingPool(options.workers) as pool:
        for file in options.files:
            pairs = list(read_pairs(file))
            figures.append({"file": file.name, **measure(pairs, pool, options.rounds)})
            row = figures[-1]
            table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    plain_console().print(table)
    if options.out:
        command = " ".join(["python", "-m", "analysis.bench.grading", *sys.argv[1:]])
        result = {"command": command, "cpus": os.cpu_count(), "figures": figures}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def read_pairs(file: Path) -> Iterator[Pair]:
    """Yield the (gold, solution) pairs of a file."""
    with file.open(encoding="utf-8") as lines:
        rows = (
            csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if file.suffix == ".tsv"
            else map(json.loads, lines)
        )
        for row in rows:
            if "gold" in row:
                yield row["gold"], row["solution"]
            elif "####" in row["answer"]:
                yield row["answer"].rpartition("####")[2].strip(), row["answer"]
            else:
                yield row["answer"], row["solution"]


def measure(pairs: list[Pair], pool: GradingPool, rounds: int) -> dict[str, float | int]:
    """Return the pairs, their number a second by each arm (median of `rounds`), the ratio and the right answers."""
    for future in [pool.submit("x+1", "$1+x$") for _ in range(8)]:  # every process is up and has judged once
        future.result()
    plain_equal("x+1", "$1+x$")
    seconds: dict[str, list[float]] = {"plain": [], "pool": []}
    right = {"plain": 0, "pool": 0}
    for _ in range(rounds):
        began = time.perf_counter()
        right["plain"] = sum(plain_equal(gold, solution) for gold, solution in pairs)
        seconds["plain"].append(time.perf_counter() - began)
        began = time.perf_counter()
        futures = [pool.submit(gold, solution) for gold, solution in pairs]
        right["pool"] = sum(future.result()["math_verify"].correct for future in futures)
        seconds["pool"].append(time.perf_counter() - began)
    plain, ours = (len(pairs) / statistics.median(seconds[arm]) for arm in ("plain", "pool"))
    return {
        "pairs": len(pairs),
        "plain": plain,
        "pool": ours,
        "ratio": ours / plain,
        **{f"right_{k}": v for k, v in right.items()},
    }


def plain_equal(gold: str, solution: str) -> bool:
    """Judge as math-verify's own documentation shows it."""
    return bool(verify(parse(f"${gold}$"), parse(solution)))


if __name__ == "__main__":
    sys.exit(main())
