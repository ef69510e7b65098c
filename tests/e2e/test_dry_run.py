"""The dry run as a user sees it: the configuration on stdout, the layout and every finding on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT

NAMES = ["numinamath30k-3b-300steps", "numinamath30k-3b-300steps-mathverify"]
ON_A_CPU = [
    "layout=cpu",
    "actor_rollout_ref.model.path=models/tiny-random",
    "guidelines.solver.model=models/tiny-random",
    "guidelines.data.source=word-problems",
    "guidelines.data.size=64",
    "guidelines.data.val_size=4",
    "data.train_batch_size=4",
    "data.max_prompt_length=512",
    "data.max_response_length=16",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "trainer.total_training_steps=2",
]


def dry_run(folder: Path, *words: str) -> tuple[int, DictConfig, list[str]]:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "COLUMNS": "200"}
    command = [sys.executable, str(ROOT / "experiments/run.py"), "--dry-run", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    config = OmegaConf.create(done.stdout)
    assert isinstance(config, DictConfig)
    assert list(folder.iterdir()) == [], "a dry run leaves nothing"
    return done.returncode, config, done.stderr.splitlines()


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="about a machine without GPUs")
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_lacks_the_gpus_alone(name: str, tmp_path: Path) -> None:
    code, config, lines = dry_run(tmp_path, "--name", name)
    assert code == 0
    assert config.trainer.default_local_dir == str(ROOT / "checkpoints/query-conditioned-guidelines" / name)
    assert OmegaConf.missing_keys(config) == set()
    assert [line for line in lines if line.startswith("error: ")] == []
    assert any(line.startswith("warning: GPUs=0: 4 are needed") for line in lines)
    assert any("0-2" in line and "rollout + training" in line and "GiB" in line for line in lines)
    assert any(line.startswith("warning: ") and "120 rollouts are padded to 192" in line for line in lines)


def test_a_machine_that_is_named_must_hold_the_run(tmp_path: Path) -> None:
    code, _, lines = dry_run(tmp_path, "--name", NAMES[1], "--for", "4xH100")
    assert (code, [line for line in lines if line.startswith("error: ") or "GPUs=" in line]) == (0, [])
    code, _, lines = dry_run(tmp_path, "--name", NAMES[1], "--for", "2xH100")
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert code == 2
    assert error.startswith("error: GPUs=2: 4 are needed")


def test_the_reference_passes_on_a_cpu_with_other_sizes(tmp_path: Path) -> None:
    code, config, lines = dry_run(tmp_path, "--name", NAMES[1], *ON_A_CPU)
    assert [line for line in lines if line.startswith("error: ")] == []
    assert code == 0
    assert (config.trainer.device, config.guidelines.grader.name) == ("cpu", "math_verify")


def test_a_store_and_a_reward_manager_that_fail_are_refused_together(tmp_path: Path) -> None:
    words = ["reward.reward_manager.module.path=pkg://no.such.module", "data.train_batch_size=3"]
    code, _, lines = dry_run(tmp_path, "--name", "quickstart", *words)
    assert code == 2
    errors = [line for line in lines if line.startswith("error: ")]
    assert any("reward.reward_manager.module.path" in line and "No module named 'no'" in line for line in errors)
    assert any("ppo_mini_batch_size" in line for line in errors)
