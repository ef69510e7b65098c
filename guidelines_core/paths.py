"""Where things lie: every path rule of a run, anchored to the repository and not to the working directory."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "experiments" / "conf"
MODELS = ROOT / "models"
DATA = ROOT / "data"
CHECKPOINTS = ROOT / "checkpoints"
MLFLOW_DATABASE = ROOT / "mlflow.db"


def anchored(path: str | Path) -> Path:
    """Return `path` as absolute: a relative one is meant from the repository's root."""
    return (ROOT / path).resolve()
