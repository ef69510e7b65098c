"""The four verdicts, and what hostile solutions and dying processes do to a pool."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import GRADERS, Grader, Reason, Verdict
from tests.support.corpus import Case, corpus
from tests.support.fuzzing import grade_all, mutations
from tests.support.hostile import HOSTILE

DEADLINE = 2.0
ALGEBRA = ("x+1", r"\boxed{1+x}")  # what no parent decides alone


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline=DEADLINE) as started:
        yield started


@pytest.fixture(scope="module")
def patient() -> Iterator[GradingPool]:
    """A pool for pairs that do not hang, whatever else the machine does."""
    with GradingPool(workers=2, deadline=60) as started:
        yield started


def reasons(verdicts: dict[str, Verdict]) -> tuple[str, str]:
    return verdicts["math_verify"].reason, verdicts["exact_match"].reason


@pytest.mark.parametrize(
    ("gold", "solution", "math_verify", "exact"),
    [
        ("18", r"\boxed{18}", "correct", "correct"),
        ("0.5", r"\boxed{\frac12}", "correct", "wrong"),
        (r"\boxed{18}", r"\boxed{19}", "wrong", "wrong"),
        ("18", r"\boxed{18", "no_answer", "no_answer"),
        (r"\frac{", r"\boxed{4}", "gold_unparseable", "wrong"),
        (r"\sqrt{8}", r"\boxed{2\sqrt2}", "correct", "wrong"),
        ("", r"\boxed{4}", "gold_unparseable", "gold_unparseable"),
    ],
)
def test_verdicts_of_both_graders(patient: GradingPool, gold: str, solution: str, math_verify: str, exact: str) -> None:
    verdicts = patient.grade_sync(gold, solution)
    assert list(verdicts) == list(GRADERS)
    assert reasons(verdicts) == (math_verify, exact)
    assert all(verdict.correct == (verdict.reason == Reason.CORRECT) for verdict in verdicts.values())


def test_corpus(patient: GradingPool) -> None:
    """math-verify, as guarded here, agrees with every verdict; exact match calls nothing right that is wrong."""
    cases = corpus()
    assert len(cases) >= 400
    verdicts = [future.result() for future in [patient.submit(case.gold, case.solution) for case in cases]]
    disagreements = [
        f"{case.verdict}, not {verdict['math_verify'].reason}: {case.gold} | {case.solution}"
        for case, verdict in zip(cases, verdicts, strict=True)
        if not agrees(case, verdict["math_verify"])
    ]
    assert disagreements == []
    assert [
        case
        for case, verdict in zip(cases, verdicts, strict=True)
        if verdict["exact_match"].correct and case.verdict != "correct"
    ] == []


def agrees(case: Case, verdict: Verdict) -> bool:
    if case.verdict in ("no_answer", "gold_unparseable"):
        return verdict.reason == case.verdict
    return verdict.correct == (case.verdict == "correct") and verdict.reason not in ("timeout", "grader_error")


def test_hostile_solutions_cost_a_deadline_and_harm_no_other_pair(pool: GradingPool) -> None:
    block = 0.0

    async def watch_the_loop() -> None:
        nonlocal block
        while True:
            start = time.monotonic()
            await asyncio.sleep(0.01)
            block = max(block, time.monotonic() - start - 0.01)

    async def grade_all() -> tuple[list[dict[str, Verdict]], list[list[str]]]:
        async def stream() -> list[str]:  # keeps the other worker busy whenever one is killed
            got: list[str] = []
            while not hostile.done() or len(got) < 35:
                n = len(got)
                got.append((await pool.grade(f"x+{n % 5}", rf"\boxed{{{n % 7}+x}}"))["math_verify"].reason)
                await asyncio.sleep(0)
            return got

        watch = asyncio.create_task(watch_the_loop())
        hostile = asyncio.gather(*(pool.grade("4", solution) for solution in HOSTILE.values()))
        good = asyncio.gather(*(stream() for _ in range(4)))
        both = await hostile, await good
        await asyncio.sleep(0.05)
        watch.cancel()
        return both

    hostile_verdicts, streams = asyncio.run(grade_all())
    # One that waited for a hostile verdict would stand still for the deadline; a busy machine delays it, too.
    assert block < DEADLINE, "the event loop stood still"
    assert [any(v.correct for v in verdicts.values()) for verdicts in hostile_verdicts] == [False] * len(HOSTILE)
    assert {verdicts["math_verify"].reason for verdicts in hostile_verdicts} <= {
        "timeout",
        "wrong",
        "no_answer",
    }
    assert reasons(hostile_verdicts[list(HOSTILE).index("tower")]) == ("timeout", "wrong")
    for got in streams:
        assert got == ["correct" if n % 5 == n % 7 else "wrong" for n in range(len(got))]


def test_no_verdict_of_a_mutated_solution_is_lost_or_swapped(patient: GradingPool) -> None:
    """The short version of tests/slow/test_fuzz_grading.py."""
    assert grade_all(patient, islice(mutations(seed=1), 150), 60).total() == 150


def test_a_grader_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRADERS, "same_length", Grader(at_once=lambda gold, answer: len(gold) == len(answer)))
    with GradingPool(workers=1) as own:
        verdicts = own.grade_sync("12", r"\boxed{34}")
    assert {name: verdict.reason for name, verdict in verdicts.items()} == {
        "math_verify": "wrong",
        "exact_match": "wrong",
        "same_length": "correct",
    }


def test_one_hostile_pair_costs_at_most_its_deadline(pool: GradingPool) -> None:
    pool.grade_sync(*ALGEBRA)
    start = time.monotonic()
    assert reasons(pool.grade_sync("4", HOSTILE["tower"])) == ("timeout", "wrong")
    assert DEADLINE <= time.monotonic() - start < DEADLINE + 15


def test_memory_limit_is_a_timeout_and_not_wrong() -> None:
    with GradingPool(workers=1, deadline=15, memory_mb=100) as small:  # SymPy alone takes 72
        assert small.grade_sync(*ALGEBRA)["math_verify"].correct
        start = time.monotonic()
        assert small.grade_sync("x+1", r"\boxed{2^{10^9}}")["math_verify"].reason == "timeout"
        assert time.monotonic() - start < 10, "it was the deadline and not the memory limit"
        assert small.grade_sync(*ALGEBRA)["math_verify"].correct


def all_children(parent: int) -> set[int]:
    tasks = Path(f"/proc/{parent}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_what_grading_raises_is_printed_with_its_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pint.py").write_text('raise ImportError("it is broken")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with GradingPool(workers=1, deadline=60) as own:
        verdicts = own.grade_sync("1", r"\boxed{1 \text{ hour and } 45 \text{ minutes}}")
    assert verdicts["math_verify"].reason == Reason.GRADER_ERROR
    said = "math_verify raised ImportError('it is broken') on gold '1' and answer '1 \\\\text{ hour and }"
    assert said in capfd.readouterr().err


def test_a_killed_process_costs_at_most_its_pair() -> None:
    before = all_children(os.getpid())
    with GradingPool(workers=2, deadline=60) as own:
        own.grade_sync(*ALGEBRA)
        hanging = own.submit("4", HOSTILE["tower"])
        time.sleep(0.5)
        waiting = [own.submit(*ALGEBRA) for _ in range(20)]
        for pid in all_children(os.getpid()) - before:
            os.kill(pid, signal.SIGKILL)
        assert reasons(hanging.result(30)) == ("grader_error", "wrong")
        spoilt = [verdict for future in waiting if (verdict := future.result(60)["math_verify"]).reason != "correct"]
        assert len(spoilt) <= 1
        assert all(verdict.reason == "grader_error" for verdict in spoilt)
        idle = all_children(os.getpid()) - before
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        while any(running(pid) for pid in idle):
            time.sleep(0.01)
        assert [own.grade_sync(*ALGEBRA)["math_verify"].reason for _ in range(4)] == ["correct"] * 4


def test_no_process_outlives_its_pool_or_its_parent() -> None:
    before = all_children(os.getpid())
    own = GradingPool(workers=1, deadline=30)
    own.grade_sync(*ALGEBRA)
    own.submit("4", HOSTILE["tower"])
    time.sleep(0.3)
    start = time.monotonic()
    own.close()
    assert time.monotonic() - start < 3, "it waited for the deadline"
    assert all_children(os.getpid()) <= before
    code = (
        "import os, time; from guidelines_core.grading.pool import GradingPool\n"
        "pool = GradingPool(2, deadline=1); pool.grade_sync('x+1', r'\\boxed{1+x}')\n"
        "[pool.submit('4', r'\\boxed{9^{9^{9^{9}}}}') for _ in range(2)]\n"
        "time.sleep(0.3); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        orphans = all_children(parent.pid)
        parent.kill()
    assert orphans
    end = time.monotonic() + 6
    while (alive := [pid for pid in orphans if running(pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    assert alive == []


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def command(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "guidelines_core.grading", *args], input=stdin, capture_output=True, timeout=60
    )


def test_command_keeps_order_and_goes_on_after_malformed_lines() -> None:
    lines = [json.dumps({"gold": str(n % 3), "solution": rf"\boxed{{{n % 4}}}"}).encode() for n in range(60)]
    lines[0] = json.dumps({"gold": "4", "solution": HOSTILE["tower"]}).encode()  # the slowest comes first
    lines[7], lines[8], lines[9] = b"{", b'{"gold": 4, "solution": "4"}', b'"\xff"'
    done = command("--deadline", "1", stdin=b"\n".join(lines))
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(verdicts) == 60
    assert verdicts[0] == {"correct": False, "reason": "timeout"}
    for n in (7, 8, 9):
        assert verdicts[n]["correct"] is False
        assert verdicts[n]["reason"].startswith(f"malformed line {n + 1}: ")
    for n in set(range(1, 60)) - {7, 8, 9}:
        assert verdicts[n] == {"correct": n % 3 == n % 4, "reason": "correct" if n % 3 == n % 4 else "wrong"}


def test_command_answers_each_line_before_the_next_one_comes() -> None:
    args = [sys.executable, "-m", "guidelines_core.grading", "--grader", "exact_match"]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"gold": "0.5", "solution": "\\\\boxed{\\\\frac12}"}\n')
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 10)[0], "no verdict before the next line"
        assert json.loads(process.stdout.readline()) == {"correct": False, "reason": "wrong"}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


@pytest.mark.parametrize("args", [("--deadline", "0"), ("--deadline", "x"), ("--grader", "none"), ("--workers", "0")])
def test_command_refuses_a_bad_argument(args: tuple[str, str]) -> None:
    done = command(*args)
    assert done.returncode == 2
    assert args[0].strip("-").encode() in done.stderr


def test_import_is_cheap() -> None:
    code = "import sys, guidelines_core.grading.pool; print(*{'math_verify', 'sympy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b""
