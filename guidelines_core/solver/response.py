"""Reads a chat server's response: its solutions, or the kind of failure and whether a retry can succeed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import httpx

from guidelines_core.solver.servers import without_key

TOO_BUSY = (408, 425, 429)
"""HTTP statuses below 500 after which the same request may succeed later."""

SHOWN = 200
"""Characters of a server's text in a message."""


class GarbledError(RuntimeError):
    """A response with status 200 has no complete answer; a retry may succeed.

    Attributes:
        body: the response's text.
    """

    def __init__(self, reason: str, body: str) -> None:
        super().__init__(reason)
        self.body = body


@dataclass(frozen=True)
class Solution:
    """A solution of the solver.

    Attributes:
        text: the solution.
        tokens: its length in tokens; for a request of several solutions, their mean, since a server counts them
            together.
        truncated: whether it was truncated at `max_tokens`.
        seed: the request's seed; vLLM adds 0, 1, … for its solutions (`v1/engine/parallel_sampling.py`). None where
            the server sampled from its own state.
    """

    text: str
    tokens: float
    truncated: bool
    seed: int | None


def passing(error: BaseException) -> bool:
    """Return whether a retry can succeed: after a server's failure or a lost connection, but not after a refusal."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in TOO_BUSY
    return isinstance(error, (httpx.TransportError, GarbledError))


def in_words(error: BaseException | None, key: str | None) -> str:
    """Return a failure in a few words, with the servers' key masked."""
    if isinstance(error, httpx.HTTPStatusError):
        seconds = retry_after(error.response)
        later = "" if seconds is None else f" (Retry-After: {seconds:.0f} s)"
        return f"HTTP status {error.response.status_code}{later}, {excerpt(error.response.text, key)}"
    reason = f"{type(error).__name__}: {without_key(str(error), key)[:SHOWN]}"
    return f"{reason}: {excerpt(error.body, key)}" if isinstance(error, GarbledError) else reason


def excerpt(text: str, key: str | None) -> str:
    """Return the first `SHOWN` characters of a server's text, quoted, with the key masked.

    It is masked first: a key that is cut is no longer found.
    """
    return repr(without_key(text, key)[:SHOWN])


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds in a response's `Retry-After`; None if it is absent or not readable.

    The header has seconds or a date (RFC 9110, 10.2.3).
    """
    text = response.headers.get("retry-after", "").strip()
    try:
        if text.isdecimal():
            return float(text)
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def read(response: httpx.Response, seed: int | None, samples: int = 1) -> list[Solution]:
    """Return the `samples` solutions in a chat server's response.

    Raises:
        httpx.HTTPStatusError: the server refused the request or failed.
        GarbledError: the body is not a complete answer, vLLM aborted one ("abort"), or there are fewer than `samples`.
    """
    response.raise_for_status()
    try:
        body = response.json()
        choices = [(choice["message"]["content"], choice["finish_reason"]) for choice in body["choices"]]
        tokens = body["usage"]["completion_tokens"]
    except (ValueError, LookupError, TypeError) as error:
        raise GarbledError(f"{type(error).__name__} in the solver's answer", response.text) from error
    whole = all(ended in ("stop", "length") and isinstance(text, str | None) for text, ended in choices)
    if not whole or len(choices) != samples or not isinstance(tokens, int):
        ends = ", ".join(repr(ended) for _, ended in choices)
        raise GarbledError(
            f"{len(choices)} of {samples} answers with finish_reason={ends} from the solver", response.text
        )
    return [
        Solution(text=text or "", tokens=tokens / samples, truncated=ended == "length", seed=seed)
        for text, ended in choices
    ]
