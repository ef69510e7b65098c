"""What `--storage` may name, and what is said of a database that cannot be used."""

from __future__ import annotations

import socket

import pytest

from guidelines_core.config.compose import ConfigError
from sweeps.storage import open_storage, refuse_unreachable


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1:{port}/optuna", "refused.*; give a database's address"),
        ("postgresql://me:secret@host:port/optuna", "cannot be read as an address; give KIND://"),
        ("optuna.db", "cannot be read as an address; give KIND://"),
        ("http://host:5000", "it is a web address; give a database's address"),
        ("sqlite:////no/such/folder/optuna.db", "is no folder to write to; make it one"),
    ],
)
def test_a_database_that_cannot_be_reached_is_refused(given: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"--storage .*{reason}") as refused:
        refuse_unreachable(given.format(port=closed_port()))
    assert "secret" not in str(refused.value)


def test_a_postgresql_address_takes_the_driver_that_is_installed() -> None:
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg2://me:\*\*\*@.*Optuna cannot use it: .*refused"):
        open_storage(f"postgresql://me:secret@127.0.0.1:{closed_port()}/optuna")
