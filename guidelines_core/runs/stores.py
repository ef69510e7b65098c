"""Where MLflow's records go, and how that may be shown."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from guidelines_core.paths import MLFLOW_DATABASE


def tracking_uri() -> str:
    """Return the MLflow store: the environment's, else a SQLite file at the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DATABASE}"


def masked(uri: str) -> str:
    """Return a store's address without its password, as it may be shown and written."""
    uri = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri)
    return re.sub(r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", r"\1***", uri, flags=re.IGNORECASE)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, None if the store is of another kind."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def artifacts_location(uri: str) -> str | None:
    """Return where a SQLite store's artifacts lie: in `mlruns` beside its file. None for another kind of store."""
    file = sqlite_file(uri)
    return (file.resolve().parent / "mlruns").as_uri() if file else None


def follow_artifacts(uri: str) -> None:
    """Make a SQLite store that was moved or copied together with its `mlruns` use the folder that lies beside it.

    MLflow keeps absolute addresses; a store in another place would write into the old folder.
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
