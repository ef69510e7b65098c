"""Starts what a benchmark measures, and ends it if the benchmark itself is interrupted or fails."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from guidelines_core.launch.stop import interrupt_on_signals

END_S = 300.0
"""Seconds in which a process ends after a signal; after SIGTERM a run may take `guidelines.stop_within_s`, 270 s."""


def exit_code(main: Callable[[], int]) -> int:
    """Return the exit code of `main`; 130 if Ctrl-C, SIGTERM or SIGHUP interrupts it."""
    interrupt_on_signals()
    try:
        return main()
    except KeyboardInterrupt:
        print("Interrupted; nothing that it started goes on.", file=sys.stderr)
        return 130


@contextlib.contextmanager
def measured_process(command: Sequence[str], **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start `command`, and end it if the block raises, KeyboardInterrupt included.

    It gets SIGINT, as Ctrl-C sends it; SIGTERM if this process ignores SIGINT, since a process inherits that. After
    `END_S` seconds, or at a second interruption, it is killed.

    Args:
        command: the program and its words.
        more: further arguments of `subprocess.Popen`.
    """
    # In a session of its own it gets no signal from the terminal besides the one sent here.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **more)
    try:
        yield process
    except BaseException:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
        finally:
            process.kill()
            process.wait()
        raise
