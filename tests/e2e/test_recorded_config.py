"""What MLflow records of a run's configuration is what verl's trainer gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.runs.provenance import parameters
from tests.e2e.conftest import problems
from tests.support.config_dump import GOT

pytestmark = pytest.mark.e2e

RUN = """
import sys
sys.path.insert(0, "experiments")
import run
from guidelines_core.launch.training import PrelaunchedDriver
run.PrelaunchedDriver = lambda config, **more: PrelaunchedDriver(config, "tests.support.config_dump", **more)
sys.exit(run.main())
"""


@pytest.mark.parametrize("overrides", [[], ["guidelines.rollout_seed=null", "guidelines.fork_processes=False"]])
def test_verl_gets_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    taken = tmp_path / "run"
    taken.mkdir()
    words = [f"guidelines.data.source={problems(tmp_path / 'odd.jsonl')}", "guidelines.data.size=20",
             "guidelines.data.val_size=4", f"trainer.default_local_dir={taken}", *overrides]  # fmt: skip
    command = [sys.executable, "-c", RUN, "--name", "tiny", *words, "--new"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    directory = tmp_path / "run-2"
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the configuration is written" in done.stdout
    got = OmegaConf.load(directory / GOT)
    assert isinstance(got, DictConfig)
    (run,) = MlflowClient(uri).search_runs(["1"])
    artifact = MlflowClient(uri).download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))
    assert got == OmegaConf.load(artifact)
    assert got == OmegaConf.load(directory / "logs" / "attempt-1.yaml")
    assert run.data.params == parameters(got)
    assert (got.trainer.experiment_name, got.trainer.default_local_dir) == ("tiny-2", str(directory))
