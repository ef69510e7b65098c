"""MLflow's new SQLite stores as copies of one: to make its tables takes forty migrations and two seconds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any


class CopiedTables:
    """Stands for MLflow's function that makes the tables of an engine's database.

    Args:
        make: MLflow's function.
        file: where the copied database is kept.
    """

    def __init__(self, make: Callable[[Any], None], file: Path) -> None:
        self._make = make
        self._file = file

    def __call__(self, engine: Any) -> None:
        """Fill the engine's database, which has no tables."""
        if engine.dialect.name != "sqlite" or engine.url.database in (None, ":memory:"):
            self._make(engine)
        elif not self._file.exists():
            self._make(engine)
            with engine.connect() as connection:
                _copy(connection.connection.driver_connection, self._file)
        else:
            with engine.connect() as connection, sqlite3.connect(self._file) as made:
                made.backup(connection.connection.driver_connection)


def _copy(database: sqlite3.Connection, file: Path) -> None:
    """Write a copy of the database to `file`, in one piece."""
    making = file.with_suffix(f".{os.getpid()}")
    with sqlite3.connect(making) as copy:
        database.backup(copy)
    copy.close()
    making.replace(file)
