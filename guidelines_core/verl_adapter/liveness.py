"""Detects that a process of the run died while no call waits for it.

verl hands prompts to its agent loop workers and then looks for the results in a queue (`replay_buffer.py`, `sample`):
if a worker was killed, verl waits forever. The same happens if a rollout server is killed while the training workers
send it weights: they wait for its confirmation that it has read them (`bucketed_weight_transfer.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

import ray

EVERY_S = 5.0


class ProcessDiedError(RuntimeError):
    """A process of the run died."""


class Liveness:
    """Checks without blocking whether `actors`, pairs of a readable name and a Ray handle, are alive."""

    def __init__(self, actors: Iterable[tuple[str, Any]]) -> None:
        self._actors = list(actors)
        self._checks = [handle.__ray_ready__.remote() for _, handle in self._actors]
        self._next = 0.0

    def check(self) -> None:
        """Raise if an actor has died; checks at most every `EVERY_S` seconds.

        Raises:
            ProcessDiedError: an actor is dead; the message has its name and Ray's error.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        for place, (name, handle) in enumerate(self._actors):
            if not ray.wait([self._checks[place]], timeout=0)[0]:
                continue
            try:
                ray.get(self._checks[place])
            except ray.exceptions.RayActorError as error:
                raise ProcessDiedError(f"the {name} died: {' '.join(str(error).split())[:300]}") from error
            self._checks[place] = handle.__ray_ready__.remote()

    def during(self, call: Callable[[], object]) -> None:
        """Run a call that waits for the actors and check them meanwhile; abandon the call if one has died.

        Raises:
            ProcessDiedError: an actor is dead.
            Exception: what the call raises.
        """
        outcome: Future[object] = Future()

        def make() -> None:
            try:
                outcome.set_result(call())
            except BaseException as error:
                outcome.set_exception(error)

        # Python waits for a pool's threads when it ends.
        threading.Thread(target=make, daemon=True).start()
        while not wait([outcome], timeout=1.0).done:
            self.check()
        outcome.result()
