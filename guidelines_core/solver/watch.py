"""Watches the solver's servers: restarts one that generates no token, and ends the run if it stays gone too long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from guidelines_core.solver.probe import gives_a_token

logger = logging.getLogger(__name__)

AGAIN_S = 1.0
"""Seconds before a server that could not be asked is asked once more, and between two starts that failed."""


class SolverLostError(RuntimeError):
    """The solver is gone and could not be restarted, so no reward can be computed."""


class Servers(Protocol):
    """What is watched: see `solver_servers.SolverServers`."""

    server_addresses: list[str]

    def restart(self, rank: int) -> None:
        """Start server `rank` again, at an address of its own."""


class SolverWatch:
    """Asks each server for one token now and then, in a thread of its own.

    Args:
        servers: the servers.
        relocate: called with all addresses when one has changed.
        settings: the section `guidelines.solver`.
    """

    def __init__(self, servers: Servers, relocate: Callable[[list[str]], None], settings: Any) -> None:
        self._servers = servers
        self._relocate = relocate
        self._settings = settings
        self._down_since: float | None = None
        self._why = ""
        self._restarts = 0
        self._down_s = 0.0
        self._ended = threading.Event()
        # A daemon: a start that hangs must not keep the run's process from ending.
        self._thread = threading.Thread(target=self._watch, name="solver-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to stop."""
        self._ended.set()

    def check(self) -> None:
        """Raise if the solver is lost; to be called while its answers are waited for.

        Raises:
            SolverLostError: it was gone for longer than `guidelines.solver.restart_within_s`.
        """
        within = self._settings.restart_within_s
        since = self._down_since
        if since is not None and time.monotonic() - since > within:
            raise SolverLostError(
                f"the solver gave no token and was not back within guidelines.solver.restart_within_s={within}: "
                f"{self._why}. The log of its server stands above"
            )

    def take_metrics(self) -> dict[str, float]:
        """Return how often a server was started again since the last call, and for how many seconds it was gone."""
        metrics = {"solver/restarts": float(self._restarts), "solver/down_s": self._down_s}
        self._restarts, self._down_s = 0, 0.0
        return metrics

    def _watch(self) -> None:
        while not self._ended.wait(self._settings.probe_every_s):
            for rank in range(len(self._servers.server_addresses)):
                if not self._ended.is_set() and not self._alive(rank):
                    self._bring_back(rank)

    def _alive(self, rank: int) -> bool:
        """Say whether server `rank` gives a token. No connection at all is looked at twice, for it fails at once."""
        began = time.monotonic()
        if self._gives_a_token(rank):
            return True
        if time.monotonic() - began >= self._settings.probe_s:
            return False
        return not self._ended.wait(AGAIN_S) and self._gives_a_token(rank)

    def _gives_a_token(self, rank: int) -> bool:
        return gives_a_token(self._servers.server_addresses[rank], self._settings.model, self._settings.probe_s)

    def _bring_back(self, rank: int) -> None:
        """Start server `rank` again until it gives a token or the time is over."""
        logger.warning("solver server %d at %s gives no token", rank, self._servers.server_addresses[rank])
        self._why = "its start has not ended"
        self._down_since = began = time.monotonic()
        while not self._ended.is_set():
            try:
                self._servers.restart(rank)
                self._relocate(self._servers.server_addresses)
                if self._gives_a_token(rank):
                    break
                self._why = "it was started again and gives no token"
            except Exception as error:  # Whatever kept it from starting may be over at the next try.
                logger.exception("solver server %d could not be started again", rank)
                # The last line of what Ray brings of an error in another process names it.
                self._why = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
            self._ended.wait(AGAIN_S)
        else:
            return
        self._restarts += 1
        self._down_s += time.monotonic() - began
        self._down_since = None
        logger.warning("solver server %d is back after %.1f s", rank, time.monotonic() - began)
