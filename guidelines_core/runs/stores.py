"""Where records are stored: the MLflow store's address, how to show an address, and whether a store can be reached."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from guidelines_core.paths import MLFLOW_DATABASE

REACH_S = 5.0
"""How long a server or a database may take to answer when it is asked whether it can be reached."""


@dataclass(frozen=True)
class StoreFailure:
    """Why a store cannot be used.

    Attributes:
        reason: a clause.
        remedy: what to do; None without an answer or a connection, where it depends on what the store is needed for.
    """

    reason: str
    remedy: str | None = None

    def __str__(self) -> str:
        """The reason, with the remedy if there is one."""
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason

    def or_else(self, remedy: str) -> str:
        """Return the reason with its own remedy, or with `remedy` if it has none."""
        return f"{self.reason}; {self.remedy or remedy}"


def tracking_uri() -> str:
    """Return the address of the MLflow store: MLFLOW_TRACKING_URI, else a SQLite file at the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DATABASE}"


def masked(uri: str) -> str:
    """Return a store's address without passwords, for messages and records."""
    uri = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri)
    return re.sub(r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", r"\1***", uri, flags=re.IGNORECASE)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, None if the store is of another kind."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def artifacts_location(uri: str) -> str | None:
    """Return the folder of a SQLite store's artifacts, `mlruns` beside its file; None for another kind of store."""
    file = sqlite_file(uri)
    return (file.resolve().parent / "mlruns").as_uri() if file else None


def follow_artifacts(uri: str) -> None:
    """Make a SQLite store that was moved or copied with its `mlruns` use the folder beside it.

    MLflow stores absolute addresses, so a moved store would write into the old folder.
    """
    file, here = sqlite_file(uri), artifacts_location(uri)
    if file is None or here is None or not file.is_file() or not (file.resolve().parent / "mlruns").is_dir():
        return
    with sqlite3.connect(file, timeout=60) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"experiments", "runs"} <= tables:
            return
        found = connection.execute(
            "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:///%/mlruns'"
        ).fetchall()
        for (old,) in found:
            if old != here:
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (here, old)
                )
                connection.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def unreachable(uri: str) -> StoreFailure | None:
    """Return why a store cannot be read; None if it answers, within `REACH_S` seconds either way.

    Clients that retry need minutes to say so. A SQLite file that does not exist yet counts as reachable if it can be
    made; nothing is created or written.

    Args:
        uri: the address of an MLflow server (http, https), or of a database as SQLAlchemy reads it.
    """
    if uri.startswith("sqlite:///"):
        return _file_failure(Path(uri.removeprefix("sqlite:///").partition("?")[0]))
    # Their imports take seconds the first time, which are not the store's.
    import mlflow.utils.rest_utils  # noqa: F401
    import sqlalchemy  # noqa: F401

    if uri.startswith(("http://", "https://")):
        return _bounded(lambda: _server_failure(uri))
    return _bounded(lambda: _database_failure(uri))


def _bounded(ask: Callable[[], StoreFailure | None]) -> StoreFailure | None:
    """Return what `ask` returns, or that there was no answer within `REACH_S` seconds."""
    answer: Future[StoreFailure | None] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # raised again where the answer is awaited
            answer.set_exception(error)

    # A pool's thread would hold up the end of this process.
    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(REACH_S)
    except TimeoutError:
        return _no_answer()


def _no_answer() -> StoreFailure:
    return StoreFailure(f"no answer within {REACH_S:g} s")


def _server_failure(uri: str) -> StoreFailure | None:
    """Return why the server at `uri` does not carry out one request of MLflow's, sent as MLflow's client sends it."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    search = "/api/2.0/mlflow/experiments/search"
    try:
        answer = http_request(
            get_default_host_creds(uri),
            search,
            "GET",
            params={"max_results": 1},
            timeout=REACH_S,
            max_retries=0,
            raise_on_status=False,
        )
    except MlflowException as error:
        text = str(error)
        if "timed out" in text:
            return _no_answer()
        system = re.search(r"\[Errno -?\d+\] [\w ]+", text)
        cause = system[0] if system else text.partition("Caused by ")[2].removesuffix(")")[:200]
        return StoreFailure(f"no connection: {cause or 'it cannot be made'}")
    return _answer_failure(answer.status_code, answer.text)


def _answer_failure(status: int, body: str) -> StoreFailure | None:
    """Return what the answer to a search for MLflow experiments says against the server."""
    if status in (401, 403):
        return StoreFailure(
            f"it refuses access with HTTP status {status}",
            "set other credentials in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in "
            "MLFLOW_TRACKING_TOKEN",
        )
    nothing = "start an MLflow server there, or give the address of one"
    if status == 404:
        return StoreFailure("no MLflow server answers there: HTTP status 404", nothing)
    if status >= 400:
        return StoreFailure(f"it answers with HTTP status {status}", "try again later, or read that server's log")
    if not _is_json(body):
        return StoreFailure("no MLflow server answers there: the answer is no JSON", nothing)
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _file_failure(file: Path) -> StoreFailure | None:
    """Return why the SQLite file `file` cannot be read, or cannot be made."""
    if not file.exists():
        folder = file.absolute().parent
        if folder.is_dir() and os.access(folder, os.W_OK):
            return None
        return StoreFailure(f"{folder} is no folder to write to", "make it one, or give another file")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=REACH_S)) as connection:
            connection.execute("SELECT name FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        return StoreFailure(f"SQLite cannot read it: {error}", "restore the file, or give another")
    return None


def _database_failure(uri: str) -> StoreFailure | None:
    """Return why the database at `uri` refuses a connection, or why the address cannot be read."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    try:
        engine = create_engine(uri)
    except NoSuchModuleError:
        kind = uri.partition(":")[0]
        return StoreFailure(f"there is no kind of database called {kind!r}", "give sqlite, postgresql or the like")
    except (ArgumentError, ValueError):  # SQLAlchemy leaves the conversion of the port to Python
        return StoreFailure("it cannot be read as an address", "give KIND://USER:PASSWORD@HOST:PORT/DATABASE")
    except ImportError as error:
        return StoreFailure(f"its driver is not installed: {error}", "install it")
    try:
        engine.connect().close()
    except DBAPIError as error:
        return StoreFailure(f"no connection: {str(error.orig).strip().splitlines()[0]}")
    finally:
        engine.dispose()
    return None
