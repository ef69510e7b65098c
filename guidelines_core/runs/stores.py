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
from pathlib import Path

from guidelines_core.paths import MLFLOW_DATABASE

REACH_S = 5.0
"""How long a server or a database may take to answer when it is asked whether it can be reached."""


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


def unreachable(uri: str) -> str | None:
    """Return why a store cannot be read, in one line; None if it answers, within `REACH_S` seconds either way.

    Clients that retry need minutes to say so. A SQLite file that does not exist yet counts as reachable if it can be
    made; nothing is created or written.

    Args:
        uri: the address of an MLflow server (http, https), or of a database as SQLAlchemy reads it.
    """
    if uri.startswith(("http://", "https://")):
        return _bounded(lambda: _server_failure(uri))
    if uri.startswith("sqlite:///"):
        return _file_failure(Path(uri.removeprefix("sqlite:///").partition("?")[0]))
    return _bounded(lambda: _database_failure(uri))


def _bounded(ask: Callable[[], str | None]) -> str | None:
    """Return what `ask` returns, or that there was no answer within `REACH_S` seconds."""
    answer: Future[str | None] = Future()

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
        return f"no answer within {REACH_S:g} s"


def _server_failure(uri: str) -> str | None:
    """Return why no MLflow server answers one request at `uri`, sent as MLflow's client sends it."""
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
            return f"no answer within {REACH_S:g} s"
        system = re.search(r"\[Errno -?\d+\] [\w ]+", text)
        cause = system[0] if system else text.partition("Caused by ")[2].removesuffix(")")[:200]
        return f"no connection: {cause or 'it cannot be made'}"
    if answer.status_code in (401, 403):
        return (
            f"it refuses access with HTTP status {answer.status_code}: expected other credentials in "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in MLFLOW_TRACKING_TOKEN"
        )
    if answer.status_code >= 400:
        return f"no MLflow server answers there: HTTP status {answer.status_code}"
    if not _is_json(answer.text):
        return "no MLflow server answers there: the answer is no JSON"
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _file_failure(file: Path) -> str | None:
    """Return why the SQLite file `file` cannot be read, or cannot be made."""
    if not file.exists():
        folder = file.absolute().parent
        return None if folder.is_dir() and os.access(folder, os.W_OK) else f"{folder} is no folder to write to"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=REACH_S)) as connection:
            connection.execute("SELECT name FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        return f"SQLite cannot read it: {error}"
    return None


def _database_failure(uri: str) -> str | None:
    """Return why the database at `uri` refuses a connection, or why the address cannot be read."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    try:
        engine = create_engine(uri)
    except NoSuchModuleError:
        return f"there is no kind of database called {uri.partition(':')[0]!r}"
    except (ArgumentError, ValueError):  # SQLAlchemy leaves the conversion of the port to Python
        return "it cannot be read as an address; expected KIND://USER:PASSWORD@HOST:PORT/DATABASE"
    except ImportError as error:
        return f"its driver is not installed: {error}"
    try:
        engine.connect().close()
    except DBAPIError as error:
        return f"no connection: {str(error.orig).strip().splitlines()[0]}"
    finally:
        engine.dispose()
    return None
