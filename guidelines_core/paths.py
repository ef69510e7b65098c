"""The project's paths, relative to the repository's root."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "experiments" / "conf"
MODELS = ROOT / "models"
DATA = ROOT / "data"
CHECKPOINTS = ROOT / "checkpoints"
MLFLOW_DATABASE = ROOT / "mlflow.db"


def anchored(path: str | Path) -> Path:
    """Return the absolute path; a relative one is taken from the repository's root."""
    return (ROOT / path).resolve()
