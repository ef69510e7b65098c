"""Whether a store can be reached is known within seconds, with the reason."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from guidelines_core.runs import stores
from guidelines_core.runs.stores import unreachable


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers every request with the status that the test names."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_refused_connection_is_said_at_once(kind: str, closed: int) -> None:
    began = time.monotonic()
    assert "refused" in str(unreachable(f"{kind}://127.0.0.1:{closed}/store"))
    assert time.monotonic() - began < stores.REACH_S


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_server_that_never_answers_costs_a_bounded_time(
    kind: str, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "REACH_S", 0.5)
    began = time.monotonic()
    assert unreachable(f"{kind}://127.0.0.1:{silent}/store") == "no answer within 0.5 s"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("answering", "reason"), [(200, None), (401, None), (404, "404"), (503, "503")], indirect=["answering"]
)
def test_any_answer_of_a_server_that_works_will_do(answering: str, reason: str | None) -> None:
    found = unreachable(answering)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("postgresql://user:secret@host:port/database", "cannot be read as an address"),
        ("not an address", "cannot be read as an address"),
        ("nosuchkind://user:secret@host/database", "no kind of database called 'nosuchkind'"),
    ],
)
def test_a_malformed_address_is_named_without_its_password(uri: str, reason: str) -> None:
    found = str(unreachable(uri))
    assert reason in found
    assert "secret" not in found


def test_a_sqlite_file_is_read_and_never_made(tmp_path: Path) -> None:
    assert unreachable(f"sqlite:///{tmp_path / 'new.db'}") is None
    assert list(tmp_path.iterdir()) == []
    assert "is no folder to write to" in str(unreachable(f"sqlite:///{tmp_path / 'no' / 'new.db'}"))
    (tmp_path / "text.db").write_text("no database, but longer than SQLite's header of one hundred bytes " * 3)
    assert "file is not a database" in str(unreachable(f"sqlite:///{tmp_path / 'text.db'}"))
    assert "SQLite cannot read it" in str(unreachable(f"sqlite:///{tmp_path}"))
