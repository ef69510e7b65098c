"""Measure how often a solver is right without a guideline, for each problem of a source.

    python -m guidelines_core.data.pass_rate --source PATH_OR_HUB_ID --model FOLDER_OR_HUB_ID --out FILE.jsonl \\
        [--samples 8] [--temperature 0.7] [--max-tokens 512] [--style instruct] [--grader math_verify] [--size N] \\
        [--engine JSON]

FILE.jsonl is a source for runs: `guidelines.data.source=FILE.jsonl`. Each problem has `pass_rate`, the share of right
solutions in the first half, by which `guidelines.data.pass_rate` chooses problems, and `baseline`, that of the second
half, for `reward/uplift`: in the half that problems were chosen by, the share is biased. FILE.jsonl.json says how it
was measured. Answers are kept in FILE.jsonl.answers/ until the end, and the same command continues after a stop. Exit
codes: 0 finished, 1 failed, 2 refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guidelines_core import prompts
from guidelines_core.data.decontamination import Benchmarks
from guidelines_core.data.manifest import measured_file
from guidelines_core.data.problems import DatasetError, Problem
from guidelines_core.data.selection import usable, with_progress
from guidelines_core.data.sources import rows_of
from guidelines_core.digests import file_sha256, text_sha256
from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import GRADERS, Reason, Verdict

ANSWER_CHATS = "guidelines_core.verl_adapter.answer_chats"
"""Runs vLLM in a separate process. It belongs to a higher layer, so it is started by its name."""

DECIDED = (Reason.CORRECT.value, Reason.WRONG.value, Reason.NO_ANSWER.value)


class GenerationFailed(RuntimeError):
    """The model's process failed; its answers until then are kept."""


@dataclass(frozen=True)
class Measurement:
    """How pass rates were measured, as FILE.jsonl.json has it.

    Attributes:
        model: the solver's folder or hub id.
        samples: solutions to each problem, half for `pass_rate` and half for `baseline`.
        temperature: of the solver's sampling.
        max_tokens: longest solution.
        style: one of `prompts.STYLES`.
        grader: the grader whose verdicts count.
        prompts_version: `prompts.VERSION`.
    """

    model: str
    samples: int
    temperature: float
    max_tokens: int
    style: str
    grader: str
    prompts_version: str = field(default=prompts.VERSION)

    def __post_init__(self) -> None:
        if self.samples < 2 or self.samples % 2:
            raise DatasetError(f"--samples {self.samples}: expected an even number, half for each of the two rates")
        if self.temperature <= 0:
            raise DatasetError(f"--temperature {self.temperature}: greedy solutions are all the same; expected above 0")


def measure(
    problems: Sequence[Problem], how: Measurement, engine: dict[str, Any], answers: Path
) -> Iterator[dict[str, Any]]:
    """Yield a source's row for each problem, with `pass_rate` and `baseline`; null where no solution got a verdict.

    Raises:
        GenerationFailed: the model's process failed.
    """
    texts = generated(problems, how, engine, answers)
    with GradingPool(workers=max(1, (os.cpu_count() or 2) - 1)) as pool:
        futures: dict[Future[dict[str, Verdict]], str] = {}
        for problem in problems:
            for number in range(how.samples):
                if (key := request_id(problem, number)) in texts:
                    futures[pool.submit(problem.gold, texts[key])] = key
        verdicts = {}
        for future in with_progress(as_completed(futures), "solutions graded"):
            verdicts[futures[future]] = future.result()[how.grader]
    half = how.samples // 2
    for problem in problems:
        given = [verdicts.get(request_id(problem, number)) for number in range(how.samples)]
        yield {
            "problem": problem.question,
            "answer": problem.gold,
            "source": problem.source,
            "pass_rate": share_right(given[:half]),
            "baseline": share_right(given[half:]),
        }


def request_id(problem: Problem, number: int) -> str:
    """Return the id of the request for a problem's `number`-th solution."""
    return f"{problem.problem_id}#{number}"


def share_right(verdicts: Iterable[Verdict | None]) -> float | None:
    """Return the share of right solutions among those with a verdict, None if there is none."""
    decided = [verdict.correct for verdict in verdicts if verdict is not None and verdict.reason in DECIDED]
    return sum(decided) / len(decided) if decided else None


def generated(problems: Sequence[Problem], how: Measurement, engine: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the model's solutions by `request_id`, without those whose prompt is too long for its context.

    A separate process generates those that are not in `folder` yet.

    Raises:
        GenerationFailed: that process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = text_sha256(repr(asdict(how)))[:10]
    requests, answers = folder / f"{name}.requests.jsonl", folder / f"{name}.answers.jsonl"
    with requests.open("w", encoding="utf-8") as lines:
        for problem in problems:
            messages = prompts.solver_messages(problem.question, None, how.style)
            for number in range(how.samples):
                line = {"id": request_id(problem, number), "messages": messages, "seed": None}
                lines.write(json.dumps(line) + "\n")
    job = folder / f"{name}.job.json"
    sampling = {"temperature": how.temperature, "top_p": 1.0, "top_k": -1, "max_tokens": how.max_tokens}
    tasks = [{"requests": str(requests), "answers": str(answers)}]
    job.write_text(json.dumps({"model": how.model, "engine": engine, "sampling": sampling, "tasks": tasks}))
    run_job(job, answers, len(problems) * how.samples)
    with answers.open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return {answer["id"]: answer["text"] for answer in found if answer["finish"] in ("stop", "length")}


def run_job(job: Path, answers: Path, total: int) -> None:
    """Run `answer_chats` on `job` and show on stderr how many answers there are.

    Raises:
        GenerationFailed: it failed.
    """
    log = job.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", ANSWER_CHATS, str(job)], stdout=output, stderr=output)
        try:
            for done in with_progress(_growing(process, answers), f"of {total} solutions written"):
                del done
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        last = (log.read_text(errors="replace").strip() or "no message").splitlines()[-1]
        raise GenerationFailed(f"{last} (all of it: {log})")


def _growing(process: subprocess.Popen[bytes], answers: Path) -> Iterator[int]:
    """Yield the number of each new answer until the process ends."""
    seen = 0
    while True:
        ended = process.poll() is not None
        there = answers.read_bytes().count(b"\n") if answers.exists() else 0
        yield from range(seen, there)
        seen = there
        if ended:
            return
        time.sleep(1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and return the exit code."""
    options = parse(arguments)
    try:
        how = Measurement(
            options.model, options.samples, options.temperature, options.max_tokens, options.style, options.grader
        )
        if options.out.suffix != ".jsonl":
            raise DatasetError(f"--out {options.out}: expected a file that ends in .jsonl")
        found, dropped, read = usable(rows_of(options.source, options.size or 30_000, 0), Path(options.source).stem,
                                      Benchmarks.of_files([]))  # fmt: skip
        problems = found[: options.size] if options.size else found
        if not problems:
            raise DatasetError(f"source {options.source} has no usable problem in {read} rows")
        answers = options.out.with_name(f"{options.out.name}.answers")
        rows = list(measure(problems, how, options.engine, answers))
    except DatasetError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except (GenerationFailed, OSError) as error:
        print(f"failed: {error}; the same command goes on from here", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    making = options.out.with_name(f".{options.out.name}.making")
    making.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    making.replace(options.out)
    rates = [row["pass_rate"] for row in rows if row["pass_rate"] is not None]
    mean = sum(rates) / len(rates) if rates else None
    said = {**asdict(how), "problems": len(rows), "accuracy": mean, "sha256": file_sha256(options.out)}
    measured_file(options.out).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(answers)
    unusable = sum(sum(counts.values()) for counts in dropped.values())
    print(f"{options.out}: {len(rows):,} of {read:,} rows, {unusable:,} cannot be used")
    if rates:
        mixed = sum(0 < rate < 1 for rate in rates) / len(rates)
        print(f"right without a guideline: {mean:.3f}; neither always nor never: {mixed:.0%} of the problems")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m guidelines_core.data.pass_rate", description="How often is a solver right without a guideline?"
    )
    add = parser.add_argument
    add("--source", required=True, help="word-problems, a .jsonl, .json or .parquet file, or a hub id")
    add("--model", required=True, help="the solver's folder or hub id")
    add("--out", required=True, type=Path, metavar="FILE.jsonl", help="the source to write")
    add("--samples", type=int, default=8, help="solutions to each problem, an even number (default %(default)s)")
    add("--temperature", type=float, default=0.7, help="of the solver's sampling (default %(default)s)")
    add("--max-tokens", type=int, default=512, help="longest solution (default %(default)s)")
    add("--style", choices=prompts.STYLES, default="instruct", help="of the prompt (default %(default)s)")
    add("--grader", choices=GRADERS, default="math_verify", help="whose verdicts count (default %(default)s)")
    add("--size", type=int, help="the first so many problems (default: all)")
    add("--engine", type=json.loads, default={}, metavar="JSON", help="more arguments of vLLM's LLM")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
