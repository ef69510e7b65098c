"""The solver's servers: their addresses, how each is reached, and which one gets the next request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CONNECT_S = 10.0
"""Seconds to connect to a server; without this limit, an unreachable machine would hold a request to its deadline."""

AVOIDED_S = 5.0
"""Seconds for which a server that failed gets no request if another server is available."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class KeyMissingError(ValueError):
    """The environment lacks the key of the solver's servers."""


def key_of(name: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the key in the environment variable `name`, `guidelines.solver.key_env`; None without a name.

    Raises:
        KeyMissingError: there is none, or none that a header may hold.
    """
    if name is None:
        return None
    key = environ.get(name, "").strip()
    if not key:
        raise KeyMissingError(f"the environment variable {name} is not set")
    if not (key.isascii() and key.isprintable()):
        raise KeyMissingError(f"the environment variable {name} holds signs that no key has")
    return key


def base_url(address: str) -> str:
    """Return the URL below which a server has `/chat/completions`.

    `address` is `host:port` of a server of the run's own, or the URL of one elsewhere, `guidelines.solver.url`.
    """
    return address.rstrip("/") if elsewhere(address) else f"http://{address}/v1"


def url_fault(url: object) -> str | None:
    """Return what is wrong with the URL of a server elsewhere, without the URL; None if nothing is."""
    try:
        parts = urlsplit(str(url))
        port = parts.port
    except ValueError as error:
        return f"it cannot be read: {error}"
    if parts.username is not None or parts.password is not None:
        return "it holds a user name or password, and a configuration is recorded"
    if parts.query or parts.fragment:
        return "it has a part behind ? or #, and a configuration is recorded"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or any(map(str.isspace, str(url))):
        return "it is no URL of a server"
    return None


def elsewhere(address: str) -> bool:
    """Return whether `address` is the URL of a server elsewhere, and not the `host:port` of the run's own."""
    return "://" in address


def network(addresses: Sequence[str], key: str | None) -> dict[str, Any]:
    """Return httpx's arguments for a client of these servers: its proxy, and the header with `key`.

    The environment's proxy is for the hub and for servers elsewhere, never for the run's own servers or loopback.
    """
    proxied = any(map(elsewhere, addresses))
    return {
        "trust_env": proxied,
        # A transport of None is httpx's own without a proxy.
        "mounts": {f"all://{host}": None for host in LOOPBACK} if proxied else None,
        "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
    }


def without_key(text: str, key: str | None) -> str:
    """Return a server's text with the key masked, since some servers repeat it."""
    return text if key is None else text.replace(key, "***")


@dataclass
class _State:
    in_flight: int = 0
    paused_until: float = 0.0
    avoided_until: float = 0.0


class Servers:
    """Chooses the server of each request. All times are seconds of the same clock.

    A server gets no request during a pause that its response requires. One that failed gets none for `AVOIDED_S` unless
    all have failed. Among the others, the one with the fewest requests in flight is chosen.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._states: dict[str, _State] = {}
        self.relocate(addresses)

    def relocate(self, addresses: Sequence[str]) -> None:
        """Send all further requests to these servers."""
        self._addresses = list(addresses)
        for address in addresses:
            self._states.setdefault(address, _State())

    @property
    def in_flight(self) -> int:
        """The requests in flight at all servers."""
        return sum(state.in_flight for state in self._states.values())

    def opens(self) -> float:
        """Return the earliest time at which a server accepts a request."""
        return min(self._states[address].paused_until for address in self._addresses)

    def take(self, now: float) -> str:
        """Return the server for a request that is sent now; `opens` must have passed."""
        states = {address: self._states[address] for address in self._addresses}
        allowed = [address for address, state in states.items() if state.paused_until <= now]
        chosen = min(allowed, key=lambda address: (states[address].avoided_until > now, states[address].in_flight))
        states[chosen].in_flight += 1
        return chosen

    def give_back(self, address: str) -> None:
        """Record the end of a request to this server."""
        self._states[address].in_flight -= 1

    def failed(self, address: str, now: float, pause: float | None) -> None:
        """Record a failed request, and the pause in seconds that the server's response requires."""
        state = self._states[address]
        state.avoided_until = now + AVOIDED_S
        state.paused_until = max(state.paused_until, now + (pause or 0.0))
