"""Requests to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP, remembered from before a run is claimed to its end."""

from __future__ import annotations

import signal
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequests:
    """The signals that ask this process to stop, as long as `with` holds; what they did before is restored then.

    Attributes:
        last: the last signal's number, None before the first.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def finish_step(self) -> bool:
        """Whether the step under way may be finished and saved first: Ctrl-C asks for an end at once."""
        return self.last in (signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> StopRequests:
        for number in SIGNALS:
            # nohup, for one, has a program ignore SIGHUP.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remember(self, number: int, frame: object) -> None:
        self.last = number
