"""A server on loopback that accepts connections and answers none, and counts them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Silent:
    """A server that accepts connections, and holds each one or closes it.

    Attributes:
        port: where it listens, on 127.0.0.1.
        closes: whether it closes each connection at once.
        accepted: the connections so far.
    """

    port: int
    closes: bool
    accepted: list[socket.socket] = field(default_factory=list)

    def connections(self, expected: int) -> int:
        """Return the number of connections, once there are `expected`: one may come after the client's deadline."""
        deadline = time.monotonic() + 10.0
        while len(self.accepted) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(self.accepted)


@contextlib.contextmanager
def silent_server(*, closes: bool = False) -> Iterator[Silent]:
    """Run such a server on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Silent(listener.getsockname()[1], closes)

        def accept() -> None:
            with contextlib.suppress(OSError):  # the listener is closed at the end
                while True:
                    connection, _ = listener.accept()
                    server.accepted.append(connection)
                    if closes:
                        connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in server.accepted:
            connection.close()
