"""A child process that judges pairs, and the parent's hold on it.

SymPy can compute forever inside one C call, where neither a signal handler nor a thread gets a turn: only the parent's
SIGKILL ends that. The children are plain interpreters, not `multiprocessing` ones, which would import the parent's
`__main__` (Ray, verl, torch) again. Linux only.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from guidelines_core.grading.verdicts import GRADERS, Reason, Verdict, judged, verdict_of
from guidelines_core.paths import ROOT

logger = logging.getLogger(__name__)

START_LIMIT = 120.0  # seconds a child may take to import SymPy on a loaded machine
OUT_OF_MEMORY = 77  # exit code of a child that came to its memory limit


def serve(fd: int, memory_mb: int) -> None:
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
            verdict = judged(judge(gold, answer))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:  # SymPy raises whatever comes to it; the next pair is not to wait for a new process
            print(
                f"{name} raised {error!r} on gold {gold!r:.200} and answer {answer!r:.200}", file=sys.stderr, flush=True
            )
            verdict = verdict_of(Reason.GRADER_ERROR)
        # SymPy and math-verify swallow MemoryError and call the pair wrong; the peak still shows it.
        peak = re.search(r"VmPeak:\s*(\d+)", Path("/proc/self/status").read_text())
        if peak and int(peak[1]) * 1024 > 0.9 * limit:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send_bytes(json.dumps(asdict(verdict)).encode())


class Worker:
    """One child process and its replacement after every death; used by one thread at a time."""

    def __init__(self, deadline: float, memory_mb: int) -> None:
        self.deadline, self.memory_mb = deadline, memory_mb
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self.ready = self.closed = False
        self.lock = threading.Lock()  # between a start and the pool's close()

    def start(self) -> None:
        """Start the child; it is ready when it has imported SymPy."""
        with self.lock:
            if self.closed:
                raise EOFError("the pool is closed")
            self.pipe, theirs = Pipe()
            root, fd = str(ROOT), theirs.fileno()
            code = f"import sys; sys.path.insert(0, {root!r}); from guidelines_core.grading.worker import serve; "
            self.process = subprocess.Popen(
                [sys.executable, "-c", code + f"serve({fd}, {self.memory_mb})"],
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
        """Return the child's verdict; a child that takes longer than the deadline, or dies, is replaced."""
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
        return verdict_of(reason)

    def close(self) -> None:
        """Kill the child for good; a thread that waits for it sees the end of its pipe."""
        with self.lock:
            self.closed = True
            if self.process is not None:
                self.process.kill()
