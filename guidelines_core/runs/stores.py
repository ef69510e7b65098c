"""Where MLflow's records go, and how that may be shown."""

from __future__ import annotations

import os
import re

from guidelines_core.paths import MLFLOW_DATABASE


def tracking_uri() -> str:
    """Return the MLflow store: the environment's, else a SQLite file at the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DATABASE}"


def masked(uri: str) -> str:
    """Return a store's address without its password, as it may be shown and written."""
    uri = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri)
    return re.sub(r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", r"\1***", uri, flags=re.IGNORECASE)
