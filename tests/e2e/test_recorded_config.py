"""What MLflow records of a run's configuration is what verl's trainer gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import DUMPING, Started
from tests.support.recorded_config import assert_recorded
from tests.support.tiny_run import Run, start, store

pytestmark = pytest.mark.e2e


def test_verl_gets_what_is_recorded(unbroken: Started, tmp_path: Path) -> None:
    assert_recorded(unbroken, "quickstart", tmp_path)


@pytest.mark.slow
def test_verl_gets_what_is_recorded_of_a_run_without_forks(tmp_path: Path) -> None:
    attempt = start(tmp_path, "guidelines.fork_processes=False", "trainer.total_training_steps=1", driver=DUMPING)
    assert attempt.exit_code == 0, attempt.output
    assert_recorded(Run(tmp_path / "run", store(tmp_path)), "quickstart", tmp_path)
