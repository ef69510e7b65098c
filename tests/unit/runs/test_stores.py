"""Whether a store can be reached is known within seconds, with the reason."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from guidelines_core.runs import stores
from guidelines_core.runs.stores import StoreFailure, unreachable
from tests.support.answering_server import answering_server
from tests.support.silent_server import silent_server


@pytest.fixture
def closed() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_refused_connection_is_said_at_once(kind: str, closed: int) -> None:
    unreachable(f"{kind}://127.0.0.1:{closed}/store")  # imports the client
    began = time.monotonic()
    assert "refused" in str(unreachable(f"{kind}://127.0.0.1:{closed}/store"))
    assert time.monotonic() - began < stores.REACH_S


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_server_that_never_answers_costs_one_bounded_try(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "REACH_S", 0.5)
    with silent_server() as server:
        assert unreachable(f"{kind}://127.0.0.1:{server.port}/store") == StoreFailure("no answer within 0.5 s")
        assert server.connections(1) == 1


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_server_that_closes_the_connection_is_asked_once(kind: str) -> None:
    with silent_server(closes=True) as server:
        found = str(unreachable(f"{kind}://127.0.0.1:{server.port}/store"))
        assert found.startswith("no connection: ")
        assert "closed" in found or "reset" in found
        assert server.connections(1) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"{}"), None),
        ((200, b"<html>"), "no MLflow server answers there: the answer is no JSON"),
        ((401, b""), "it refuses access with HTTP status 401; set other credentials in MLFLOW_TRACKING_USERNAME"),
        ((403, b""), "it refuses access with HTTP status 403; set other credentials in MLFLOW_TRACKING_USERNAME"),
        ((404, b""), "no MLflow server answers there: HTTP status 404; start an MLflow server there"),
        ((429, b""), "it answers with HTTP status 429; try again later"),
        ((503, b""), "it answers with HTTP status 503; try again later"),
    ],
)
def test_what_a_server_answers_says_whether_it_can_be_used(answer: tuple[int, bytes], reason: str | None) -> None:
    with answering_server(*answer) as uri:
        found = unreachable(uri)
    assert found is None if reason is None else str(found).startswith(reason)


def test_a_server_gets_the_credentials_that_mlflow_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "planted")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert unreachable(f"http://127.0.0.1:{server.server_port}") is None
        server.shutdown()
    assert sent == ["Bearer planted"]


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
