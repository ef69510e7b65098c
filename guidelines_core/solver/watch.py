"""Watches the solver's servers: restarts one that generates no token; a solver that stays gone too long is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from guidelines_core.solver.probe import no_token

logger = logging.getLogger(__name__)

AGAIN_S = 1.0
"""Seconds before a server that could not be asked is asked once more, and between two starts that failed."""


class SolverLostError(RuntimeError):
    """The solver is gone and did not come back, so no reward can be computed."""


class Servers(Protocol):
    """What is watched: see `solver_servers.SolverServers`."""

    server_addresses: list[str]

    def restart(self, rank: int) -> None:
        """Start server `rank` again, at an address of its own."""


class Watch:
    """Looks after servers now and then, in a thread of its own, and knows since when the solver is gone.

    Args:
        settings: the section `guidelines.solver`.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._down_since: float | None = None
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
            raise SolverLostError(self._lost(f"guidelines.solver.restart_within_s={within}"))

    def take_metrics(self) -> dict[str, float]:
        """Return what happened to the servers since the last call."""
        metrics = {**self._metrics(), "solver/down_s": self._down_s}
        self._down_s = 0.0
        return metrics

    def _watch(self) -> None:
        while not self._ended.wait(self._settings.probe_every_s):
            self._look()

    def _back(self) -> float:
        """Note that the solver, which was gone, is back, and return for how many seconds it was gone."""
        seconds = time.monotonic() - (self._down_since or time.monotonic())
        self._down_s += seconds
        self._down_since = None
        return seconds

    def _look(self) -> None:
        raise NotImplementedError

    def _lost(self, limit: str) -> str:
        raise NotImplementedError

    def _metrics(self) -> dict[str, float]:
        raise NotImplementedError


class SolverWatch(Watch):
    """Asks each of the run's own servers for a token and starts one again that gives none.

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

    def _look(self) -> None:
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
        return no_token(self._servers.server_addresses[rank], self._settings.model, self._settings.probe_s) is None

    def _bring_back(self, rank: int) -> None:
        """Start server `rank` again until it gives a token or the time is over."""
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
            except Exception as error:  # Whatever kept it from starting may be over at the next try.
                logger.exception("solver server %d could not be started again", rank)
                # The last line of what Ray brings of an error in another process names it.
                self._why = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
            self._ended.wait(AGAIN_S)
        else:
            return
        self._restarts += 1
        logger.warning("solver server %d is back after %.1f s", rank, self._back())
