"""Compares what is recorded of a run's configuration with what verl's trainer got (`config_dump.py`)."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from guidelines_core.runs.provenance import parameters
from tests.support.config_dump import GOT
from tests.support.tiny_run import Run


def assert_recorded(run: Run, name: str, folder: Path) -> None:
    """Check the run's configuration in MLflow, in its directory and in its parameters against the trainer's."""
    got = OmegaConf.load(run.directory / GOT)
    assert isinstance(got, DictConfig)
    artifact = MlflowClient(run.uri).download_artifacts(run.stored.info.run_id, "config.yaml", str(folder))
    assert got == OmegaConf.load(artifact)
    assert got == OmegaConf.load(run.directory / "logs" / "attempt-1.yaml")
    assert run.stored.data.params == parameters(got)
    assert (got.trainer.experiment_name, got.trainer.default_local_dir) == (name, str(run.directory))
