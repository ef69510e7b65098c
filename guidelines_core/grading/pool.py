"""Verdicts on (gold, solution) pairs: math-verify and exact match, with deadlines that really end.

math-verify runs in child processes, since SymPy can compute for ever inside one C call, where neither a
signal handler nor a thread gets a turn: only the parent's SIGKILL ends that. The children are plain
interpreters, not `multiprocessing` ones, which would import the parent's `__main__` (Ray, verl, torch) again.
Pebble's pool was tried: it breaks for good when an idle worker dies. Linux only.

    python -m guidelines_core.grading [--grader math_verify|exact_match] [--deadline 5] < pairs.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import queue
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from guidelines_core.grading.equality import math_equal, quick_equal
from guidelines_core.grading.exact import text_equal
from guidelines_core.grading.extract import final_answer, gold_text
from guidelines_core.paths import ROOT

logger = logging.getLogger(__name__)

START_LIMIT = 120.0  # seconds a child may take to import SymPy on a loaded machine
OUT_OF_MEMORY = 77  # exit code of a child that came to its memory limit


class Reason(str, Enum):
    """Why a verdict is what it is. `SOLVER_ERROR` is the reward path's own and not produced here."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    GOLD_UNPARSEABLE = "gold_unparseable"
    TIMEOUT = "timeout"  # the deadline or the memory limit
    GRADER_ERROR = "grader_error"
    SOLVER_ERROR = "solver_error"


@dataclass(frozen=True)
class Verdict:
    """A grader's judgement of one solution; `reason` is the value of a `Reason`."""

    correct: bool
    reason: str


Judge = Callable[[str, str], bool | None]  # of gold and answer; None: the gold is not understood


@dataclass(frozen=True)
class Grader:
    """How a kind of grader judges the text of a gold and of a final answer.

    Attributes:
        at_once: called in the caller's own thread, so it must be quick whatever it is given.
        in_process: asked where `at_once` is missing or answers None; runs in a child that is killed at the deadline.
    """

    at_once: Judge | None = None
    in_process: Judge | None = None


GRADERS = {
    "math_verify": Grader(at_once=quick_equal, in_process=math_equal),
    "exact_match": Grader(at_once=text_equal),
}


def _verdict(reason: Reason) -> Verdict:
    return Verdict(reason is Reason.CORRECT, reason.value)


def _judged(equal: bool | None) -> Verdict:
    return _verdict(Reason.GOLD_UNPARSEABLE if equal is None else Reason.CORRECT if equal else Reason.WRONG)


# -- the child --------------------------------------------------------------------------------------------


def _serve(fd: int, memory_mb: int) -> None:
    """Answer the parent's pairs until it closes the pipe or dies."""
    import math_verify  # type: ignore[import-untyped]  # noqa: F401

    logging.disable(logging.CRITICAL)  # it warns of every timeout left to us
    pipe, limit = Connection(fd), memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    gc.freeze()  # with the parser's garbage collected less often, grading takes a tenth less time
    gc.set_threshold(100_000, 50, 100)
    pipe.send_bytes(b"ready")
    while True:
        try:
            name, gold, answer, deadline = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        judge = GRADERS[name].in_process
        assert judge is not None
        # Only if the parent died in the middle of a pair: the kernel's default action needs no Python to run.
        signal.setitimer(signal.ITIMER_REAL, deadline + 1)
        try:
            verdict = _judged(judge(gold, answer))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception:  # SymPy raises whatever comes to it; the next pair is not to wait for a new process
            verdict = _verdict(Reason.GRADER_ERROR)
        # SymPy and math-verify swallow MemoryError and call the pair wrong; the peak still shows it.
        peak = re.search(r"VmPeak:\s*(\d+)", Path("/proc/self/status").read_text())
        if peak and int(peak[1]) * 1024 > 0.9 * limit:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send_bytes(json.dumps(asdict(verdict)).encode())


# -- the pool: runs in the parent -------------------------------------------------------------------------


class _Worker:
    """One child process and its replacement after every death; used by one thread at a time."""

    def __init__(self, deadline: float, memory_mb: int) -> None:
        self.deadline, self.memory_mb = deadline, memory_mb
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self.ready = self.closed = False
        self.lock = threading.Lock()  # between a start and the pool's close()

    def start(self) -> None:
        with self.lock:
            if self.closed:
                raise EOFError("the pool is closed")
            self.pipe, theirs = Pipe()
            root, fd = str(ROOT), theirs.fileno()
            code = f"import sys; sys.path.insert(0, {root!r}); from guidelines_core.grading.pool import _serve; "
            self.process = subprocess.Popen(
                [sys.executable, "-c", code + f"_serve({fd}, {self.memory_mb})"],
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the parent
            )
            theirs.close()
            self.ready = False

    def stop(self, grace: float = 0.0) -> int | None:
        """Kill the child; return its exit code if it ends by itself within `grace` seconds."""
        if self.process is None or self.pipe is None:
            return None
        try:
            code = self.process.wait(grace)
        except subprocess.TimeoutExpired:
            code = None
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        self.process = None
        return code

    def judge(self, grader: str, gold: str, answer: str) -> Verdict:
        try:
            if self.process is not None and self.process.poll() is not None:
                self.stop()  # died while idle: no pair's fault
            if self.process is None:
                self.start()
            assert self.pipe is not None
            if not self.ready:
                if not self.pipe.poll(START_LIMIT):
                    raise EOFError(f"a grader process did not start within {START_LIMIT} s")
                self.pipe.recv_bytes()
                self.ready = True
            self.pipe.send_bytes(json.dumps([grader, gold, answer, self.deadline]).encode())
            if self.pipe.poll(self.deadline):
                return Verdict(**json.loads(self.pipe.recv_bytes()))
            reason = Reason.TIMEOUT
            self.stop()
        except (OSError, EOFError) as error:
            code = self.stop(grace=1.0)
            reason = Reason.TIMEOUT if code == OUT_OF_MEMORY else Reason.GRADER_ERROR
            if reason is Reason.GRADER_ERROR and not self.closed:
                logger.warning("grader process ended with exit code %s on gold %.80r: %r", code, gold, error)
        if not self.closed:
            self.start()  # SymPy's import goes on while the caller takes the verdict
        return _verdict(reason)

    def close(self) -> None:
        """Kill the child for good; a thread that waits for it sees the end of its pipe."""
        with self.lock:
            self.closed = True
            if self.process is not None:
                self.process.kill()


class GradingPool:
    """Grades pairs with every grader in `GRADERS`; a pair that hangs costs its deadline and no more.

    `workers` child processes (started at their first pair); `deadline` seconds a pair, from the moment a
    child takes it; `memory_mb` MiB of address space a child. Verdicts come as dicts keyed by grader.
    Raises ValueError on a setting that is not positive.
    """

    def __init__(self, workers: int = 2, deadline: float = 5.0, memory_mb: int = 1024) -> None:
        for key, value in {"workers": workers, "deadline": deadline, "memory_mb": memory_mb}.items():
            if not value > 0:
                raise ValueError(f"{key}={value!r}: expected a number above 0; set it to at least 1")
        self._workers = [_Worker(deadline, memory_mb) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grading")

    def submit(self, gold: str, solution: str) -> Future[dict[str, Verdict]]:
        """Queue a pair; what can be judged at once is judged here and now, and stands whatever a child does."""
        wanted, answer = gold_text(gold), final_answer(solution)
        verdicts: dict[str, Verdict | None]
        if wanted is None or answer is None:
            reason = Reason.GOLD_UNPARSEABLE if wanted is None else Reason.NO_ANSWER
            verdicts = dict.fromkeys(GRADERS, _verdict(reason))
            wanted = answer = ""
        else:
            verdicts = {name: self._at_once(grader, wanted, answer) for name, grader in GRADERS.items()}
        if all(verdicts.values()):
            done: Future[dict[str, Verdict]] = Future()
            done.set_result({name: verdict for name, verdict in verdicts.items() if verdict})
            return done
        return self._threads.submit(self._finish, verdicts, wanted, answer)

    @staticmethod
    def _at_once(grader: Grader, gold: str, answer: str) -> Verdict | None:
        equal = grader.at_once(gold, answer) if grader.at_once else None
        return None if equal is None and grader.in_process else _judged(equal)

    def _finish(self, verdicts: dict[str, Verdict | None], gold: str, answer: str) -> dict[str, Verdict]:
        worker = self._idle.get()
        try:
            return {name: verdict or worker.judge(name, gold, answer) for name, verdict in verdicts.items()}
        finally:
            self._idle.put(worker)

    async def grade(self, gold: str, solution: str) -> dict[str, Verdict]:
        """Grade a pair without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(gold, solution))

    def grade_sync(self, gold: str, solution: str) -> dict[str, Verdict]:
        """Grade a pair and wait for it."""
        return self.submit(gold, solution).result()

    def close(self) -> None:
        """Kill the children and give up the pairs that wait (their futures are cancelled)."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.stop()

    def __enter__(self) -> GradingPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- the command ------------------------------------------------------------------------------------------

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
