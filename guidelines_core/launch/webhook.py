"""Sends short messages to an address, such as Slack's or Discord's incoming webhook, and never waits for it.

The address is a secret: it is in no message, log or record, and neither is what the other side answers.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

import httpx

TRIES, PAUSE_S, TIMEOUT_S = 5, 1.0, 10.0
"""Tries for a message, seconds after the first one, doubled after each, and seconds that one may take."""

log = logging.getLogger(__name__)


class Webhook:
    """Sends messages from a thread, in order; one that is not taken in `TRIES` tries is dropped and said so."""

    def __init__(self, address: str, pause_s: float = PAUSE_S) -> None:
        self._address, self._pause_s = address, pause_s
        self._messages: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._send_all, name="webhook", daemon=True)
        self._thread.start()

    def send(self, text: str) -> None:
        """Have a message sent; returns at once."""
        self._messages.put(text)

    def close(self, seconds: float = 15.0) -> None:
        """Wait at most so long for what is still to be sent."""
        self._messages.put(None)
        self._thread.join(seconds)

    def _send_all(self) -> None:
        while (text := self._messages.get()) is not None:
            failure = self._sent(text)
            if failure is not None:
                log.warning("the webhook did not take an alarm in %d tries (%s): %s", TRIES, failure, text)

    def _sent(self, text: str) -> str | None:
        """Try to send a message; return what was wrong with the last try, None if it was taken."""
        failure = ""
        for number in range(TRIES):
            if number:
                time.sleep(self._pause_s * 2 ** (number - 1))
            try:
                # Slack reads `text`, Discord `content`.
                answer = httpx.post(self._address, json={"text": text, "content": text}, timeout=TIMEOUT_S)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = type(error).__name__
                continue
            if answer.is_success:
                return None
            failure = f"status {answer.status_code}"
        return failure
