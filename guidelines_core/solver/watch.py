"""Watches the solver's servers: restarts one that generates no token; a solver that stays gone too long is lost."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from guidelines_core.solver.probe import no_token

logger = logging.getLogger(__name__)

AGAIN_S = 1.0
"""Seconds before the second probe of a server that refuses connections, and between two starts that failed."""


class SolverLostError(RuntimeError):
    """The solver does not answer and could not be restarted, so no reward can be computed."""


class Servers(Protocol):
    """The servers that are watched, see `verl_adapter/reward_loop.py`."""

    server_addresses: list[str]

    def restart(self, rank: int) -> None:
        """Restart server `rank`, at a new address."""


class Watch(ABC):
    """Probes the solver's servers every `probe_every_s` seconds in a thread, and measures how long the solver is down.

    Args:
        settings: the section `guidelines.solver`.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._down_since: float | None = None
        self._down_s = 0.0
        self._ended = threading.Event()
        # A daemon thread, so that a hanging start does not keep the run's process alive.
        self._thread = threading.Thread(target=self._watch, name="solver-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after its current probe."""
        self._ended.set()

    def check(self) -> None:
        """Raise an error if the solver is lost; to be called while waiting for its answers.

        Raises:
            SolverLostError: it has been down for longer than `guidelines.solver.restart_within_s`.
        """
        within = self._settings.restart_within_s
        since = self._down_since
        if since is not None and time.monotonic() - since > within:
            raise SolverLostError(self._lost(f"guidelines.solver.restart_within_s={within}"))

    def take_metrics(self) -> dict[str, float]:
        """Return metrics about the servers since the last call; `solver/down_s` has the seconds without a solver."""
        metrics = {**self._metrics(), "solver/down_s": self._down_s}
        self._down_s = 0.0
        return metrics

    def _watch(self) -> None:
        while not self._ended.wait(self._settings.probe_every_s):
            self._probe()

    def _back(self) -> float:
        """Record that the solver answers again; return the seconds for which it was down."""
        seconds = time.monotonic() - (self._down_since or time.monotonic())
        self._down_s += seconds
        self._down_since = None
        return seconds

    @abstractmethod
    def _probe(self) -> None:
        """Probe the servers once."""

    @abstractmethod
    def _lost(self, limit: str) -> str:
        """Return the message for a solver that was down for longer than `limit`, `KEY=SECONDS`."""

    @abstractmethod
    def _metrics(self) -> dict[str, float]:
        """Return further metrics since the last call."""


class SolverWatch(Watch):
    """Restarts each of the run's own servers that generates no token.

    Args:
        servers: the servers.
        relocate: called with all addresses when one has changed.
        settings: the section `guidelines.solver`.
    """

    def __init__(self, servers: Servers, relocate: Callable[[list[str]], None], settings: Any) -> None:
        super().__init__(settings)
        self._servers = servers
        self._relocate = relocate
        self._why = ""
        self._restarts = 0

    def _lost(self, limit: str) -> str:
        return (
            f"the solver gave no token and was not back within {limit}: {self._why}. The log of its server stands above"
        )

    def _metrics(self) -> dict[str, float]:
        metrics = {"solver/restarts": float(self._restarts)}
        self._restarts = 0
        return metrics

    def _probe(self) -> None:
        for rank in range(len(self._servers.server_addresses)):
            if not self._ended.is_set() and not self._alive(rank):
                self._bring_back(rank)

    def _alive(self, rank: int) -> bool:
        """Return whether server `rank` generates a token; a probe that fails fast is repeated once."""
        began = time.monotonic()
        if self._gives_a_token(rank):
            return True
        if time.monotonic() - began >= self._settings.probe_s:
            return False
        return not self._ended.wait(AGAIN_S) and self._gives_a_token(rank)

    def _gives_a_token(self, rank: int) -> bool:
        return no_token(self._servers.server_addresses[rank], self._settings.model, self._settings.probe_s) is None

    def _bring_back(self, rank: int) -> None:
        """Restart server `rank` until it generates a token or the watch is stopped."""
        logger.warning("solver server %d at %s gives no token", rank, self._servers.server_addresses[rank])
        self._why = "its start has not ended"
        self._down_since = time.monotonic()
        while not self._ended.is_set():
            try:
                self._servers.restart(rank)
                self._relocate(self._servers.server_addresses)
                if self._gives_a_token(rank):
                    break
                self._why = "it was started again and gives no token"
            except Exception as error:  # Any error may be gone at the next try.
                logger.exception("solver server %d could not be started again", rank)
                # Ray's text of an error in another process names the error in its last line.
                self._why = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
            self._ended.wait(AGAIN_S)
        else:
            return
        self._restarts += 1
        logger.warning("solver server %d is back after %.1f s", rank, self._back())
