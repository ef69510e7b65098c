"""Requests to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP, before a run is claimed and until its end."""

from __future__ import annotations

import signal
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_on_signals() -> None:
    """Make SIGINT (Ctrl-C), SIGTERM and SIGHUP raise KeyboardInterrupt, except those that this process ignores."""
    for number in SIGNALS:
        # nohup, for example, makes a program ignore SIGHUP.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


class StopRequests:
    """Records the signals that ask this process to stop, inside a `with` block; restores their handlers afterwards.

    Attributes:
        last: the last signal's number, None before the first.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def finish_step(self) -> bool:
        """Whether the current step may be finished and saved first; Ctrl-C ends the run immediately."""
        return self.last in (signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> StopRequests:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remember(self, number: int, frame: object) -> None:
        self.last = number
