"""Sends short messages from a thread to a web address, such as an incoming webhook of Slack or Discord.

The address is a secret. Messages, logs and records contain neither the address nor the server's response.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

import httpx

TRIES, PAUSE_S, TIMEOUT_S = 5, 1.0, 10.0
"""Tries for a message, seconds of the first pause between two of them (doubled after each), and seconds for a try."""

log = logging.getLogger(__name__)


class Webhook:
    """Sends messages in order; drops and logs one that the server does not accept in `TRIES` tries."""

    def __init__(self, address: str, pause_s: float = PAUSE_S) -> None:
        self._address, self._pause_s = address, pause_s
        self._messages: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._send_all, name="webhook", daemon=True)
        self._thread.start()

    def send(self, text: str) -> None:
        """Queue a message; returns at once."""
        self._messages.put(text)

    def close(self, seconds: float = 15.0) -> None:
        """Wait at most `seconds` for the messages that are still to be sent."""
        self._messages.put(None)
        self._thread.join(seconds)

    def _send_all(self) -> None:
        while (text := self._messages.get()) is not None:
            failure = self._send(text)
            if failure is not None:
                log.warning("the webhook did not accept an alarm in %d tries (%s): %s", TRIES, failure, text)

    def _send(self, text: str) -> str | None:
        """Try to send a message; return why the last try failed, None if the server accepted the message."""
        failure = ""
        for number in range(TRIES):
            if number:
                time.sleep(self._pause_s * 2 ** (number - 1))
            try:
                # Slack reads `text`, Discord `content`.
                response = httpx.post(self._address, json={"text": text, "content": text}, timeout=TIMEOUT_S)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = type(error).__name__
                continue
            if response.is_success:
                return None
            failure = f"status {response.status_code}"
        return failure
