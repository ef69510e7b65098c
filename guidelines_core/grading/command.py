"""Judges (gold, solution) pairs of standard input, as JSON lines.

python -m guidelines_core.grading [--grader math_verify|exact_match] [--deadline 5] < pairs.jsonl
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
from concurrent.futures import Future
from dataclasses import asdict

from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import GRADERS, Verdict

_Line = Future[dict[str, Verdict]] | str | Exception | None


def _read(pool: GradingPool, lines: queue.Queue[_Line]) -> None:
    """Put a future for each of stdin's pairs into `lines`, a message for a malformed one, None at the end."""
    try:
        with open(0, "rb", closefd=False) as stdin:
            for number, line in enumerate(stdin, 1):
                lines.put(_submit(pool, number, line))
        lines.put(None)
    except Exception as error:  # for the main thread to raise
        lines.put(error)


def _submit(pool: GradingPool, number: int, line: bytes) -> Future[dict[str, Verdict]] | str:
    try:
        pair = json.loads(line)
        gold, solution = pair["gold"], pair["solution"]
        if not (isinstance(gold, str) and isinstance(solution, str)):
            raise TypeError("gold and solution must be strings")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
        return f'malformed line {number}: expected {{"gold": str, "solution": str}}: {problem}'
    return pool.submit(gold, solution)


def main(argv: list[str] | None = None) -> int:
    """Grade stdin's JSON lines to stdout, in order; 0, or 130 when interrupted (a bad argument exits 2)."""
    parser = argparse.ArgumentParser(prog="python -m guidelines_core.grading", description=__doc__)
    parser.add_argument("--grader", choices=list(GRADERS), default="math_verify")
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds a pair (default: 5)")
    parser.add_argument("--workers", type=int, default=2, help="grader processes (default: 2)")
    options = parser.parse_args(argv)
    try:
        pool = GradingPool(options.workers, options.deadline)
    except ValueError as error:
        parser.error(str(error))
    lines: queue.Queue[_Line] = queue.Queue(maxsize=64 * options.workers)
    with pool:
        # Reading has its own thread, so that a verdict goes out while the next line has not come yet.
        threading.Thread(target=_read, args=(pool, lines), daemon=True).start()
        try:
            while (line := lines.get()) is not None:
                if isinstance(line, Exception):
                    raise line
                verdict = Verdict(False, line) if isinstance(line, str) else line.result()[options.grader]
                print(json.dumps(asdict(verdict)), flush=True)
        except KeyboardInterrupt:
            return 130
    return 0
