"""Watches solver servers that run elsewhere: one that generates no token gets no requests until it does again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from guidelines_core.solver.probe import no_token
from guidelines_core.solver.servers import key_of
from guidelines_core.solver.watch import Watch

logger = logging.getLogger(__name__)


class UrlWatch(Watch):
    """Sends requests only to the servers that generate a token, or to all of them while none does.

    Args:
        urls: the servers' URLs.
        relocate: called with the URLs that get requests from now on.
        settings: the section `guidelines.solver`.
    """

    def __init__(self, urls: Sequence[str], relocate: Callable[[list[str]], None], settings: Any) -> None:
        super().__init__(settings)
        self._urls = self._in_use = list(urls)
        self._relocate = relocate
        self._key = key_of(settings.key_env)
        self._failures: dict[str, str] = {}

    def _probe(self) -> None:
        began = time.monotonic()
        failures = {}
        for url in self._urls:
            why = no_token(url, self._settings.model, self._settings.probe_s, self._key)
            if why is not None:
                failures[url] = why
                if url not in self._failures:
                    logger.warning("the solver at %s gives no token: %s", url, why)
        self._failures = failures
        answering = [url for url in self._urls if url not in failures]
        if not answering:
            self._down_since = self._down_since or began
        elif self._down_since is not None:
            logger.warning("the solver is back after %.1f s, at %s", self._back(), ", ".join(answering))
        in_use = answering or self._urls
        if in_use != self._in_use:
            self._in_use = in_use
            self._relocate(in_use)

    def _lost(self, limit: str) -> str:
        said = "; ".join(f"{url}: {why}" for url, why in self._failures.items())
        return f"the solver gave no token within {limit}: {said}"

    def _metrics(self) -> dict[str, float]:
        return {"solver/servers_left_out": float(len(self._urls) - len(self._in_use))}
