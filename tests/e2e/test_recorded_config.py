"""What MLflow records of a run's configuration is what verl's trainer gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from guidelines_core.runs.provenance import parameters
from tests.e2e.conftest import DUMPING, Started
from tests.support.config_dump import GOT
from tests.support.tiny_run import Run, start, store

pytestmark = pytest.mark.e2e


def test_verl_gets_what_is_recorded(unbroken: Started, tmp_path: Path) -> None:
    assert_recorded(unbroken, "quickstart", tmp_path)


def test_verl_gets_what_is_recorded_of_a_second_run_without_a_rollout_seed(losing: Started, tmp_path: Path) -> None:
    assert_recorded(losing, "quickstart-2", tmp_path)


@pytest.mark.slow
def test_verl_gets_what_is_recorded_of_a_run_without_forks(tmp_path: Path) -> None:
    attempt = start(tmp_path, "guidelines.fork_processes=False", "trainer.total_training_steps=1", driver=DUMPING)
    assert attempt.exit_code == 0, attempt.output
    assert_recorded(Run(tmp_path / "run", store(tmp_path)), "quickstart", tmp_path)


def assert_recorded(run: Run, name: str, folder: Path) -> None:
    """Check the run's configuration in MLflow, in its directory and in its parameters against the trainer's."""
    got = OmegaConf.load(run.directory / GOT)
    assert isinstance(got, DictConfig)
    artifact = MlflowClient(run.uri).download_artifacts(run.stored.info.run_id, "config.yaml", str(folder))
    assert got == OmegaConf.load(artifact)
    assert got == OmegaConf.load(run.directory / "logs" / "attempt-1.yaml")
    assert run.stored.data.params == parameters(got)
    assert (got.trainer.experiment_name, got.trainer.default_local_dir) == (name, str(run.directory))
