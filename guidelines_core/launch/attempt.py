"""The values that an attempt adds to a run's configuration: run name, directory, and the checkpoint to resume from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from guidelines_core.config.compose import changed


@dataclass(frozen=True)
class Launch:
    """Values that are known when the run is claimed and may differ between attempts.

    Attributes:
        run_name: the MLflow run's name, `NAME-2` for the second run of experiment `NAME`.
        directory: the claimed checkpoint directory.
        checkpoint: the folder to resume from; None starts from the first step.
    """

    run_name: str
    directory: Path
    checkpoint: Path | None = None


def attempt_config(config: DictConfig, launch: Launch) -> DictConfig:
    """Return the attempt's whole configuration, as verl gets it and `logs/attempt-N.yaml` and MLflow record it."""
    values = {"trainer.experiment_name": launch.run_name, "trainer.default_local_dir": str(launch.directory)}
    if launch.checkpoint is not None:
        values |= {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(launch.checkpoint)}
    return changed(config, values)
