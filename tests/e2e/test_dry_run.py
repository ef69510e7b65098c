"""The dry run as a user sees it: the configuration on stdout, the layout and every finding on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from tests.support.warm_python import DRY_RUNS, warm_python

pytestmark = pytest.mark.e2e

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


COMMANDS = {
    "here": ["--name", NAMES[0]],
    "4xH100": ["--name", NAMES[1], "--for", "4xH100"],
    "2xH100": [
        "--name", NAMES[1], "--for", "2xH100", "guidelines.solver.max_concurrency=4", "reward.num_workers=8",
    ],
    "cpu": ["--name", NAMES[1], *ON_A_CPU],
    "wrong": [
        "--name", "quickstart", "reward.reward_manager.module.path=pkg://no.such.module", "data.train_batch_size=3",
    ],
}  # fmt: skip


class Ran(NamedTuple):
    """The exit code, the configuration on stdout, and the lines on stderr."""

    code: int
    config: DictConfig
    lines: list[str]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.lines if line.startswith("error: ")]


def dry_run(folder: Path, words: list[str], python: str) -> Ran:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "COLUMNS": "200"}
    command = [python, str(ROOT / "experiments/run.py"), "--dry-run", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    config = OmegaConf.create(done.stdout)
    assert isinstance(config, DictConfig)
    assert list(folder.iterdir()) == [], "a dry run leaves nothing"
    return Ran(done.returncode, config, done.stderr.splitlines())


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Make every dry run, two at a time; that of this machine and that on a CPU import what they need themselves."""
    folders = [tmp_path_factory.mktemp("dry") for _ in COMMANDS]
    pythons = [sys.executable if name in ("here", "cpu") else warm_python(DRY_RUNS) for name in COMMANDS]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(COMMANDS, pool.map(dry_run, folders, COMMANDS.values(), pythons), strict=True))


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="about a machine without GPUs")
def test_the_reference_lacks_the_gpus_alone(ran: dict[str, Ran]) -> None:
    code, config, lines = ran["here"]
    assert code == 0
    assert config.trainer.default_local_dir == str(ROOT / "checkpoints/query-conditioned-guidelines" / NAMES[0])
    assert OmegaConf.missing_keys(config) == set()
    assert ran["here"].errors == []
    assert any(line.startswith("warning: GPUs=0: 4 are needed") for line in lines)
    assert any("0-2" in line and "rollout + training" in line and "GiB" in line for line in lines)
    assert any(line.startswith("warning: ") and "120 rollouts are padded to 192" in line for line in lines)


def test_a_machine_that_is_named_must_hold_the_run(ran: dict[str, Ran]) -> None:
    large, small = ran["4xH100"], ran["2xH100"]
    assert (large.code, large.errors, [line for line in large.lines if "GPUs=" in line]) == (0, [], [])
    assert small.code == 2
    assert any(error.startswith("error: GPUs=2: 4 are needed") for error in small.errors)


def test_too_few_requests_in_flight_are_estimated_and_refused(ran: dict[str, Ran]) -> None:
    lines, errors = ran["2xH100"].lines, ran["2xH100"].errors
    assert any(line.startswith("Cost: about") for line in lines)
    assert any(line.startswith("error: guidelines.solver.max_concurrency=4: reward.num_workers=8") for line in errors)
    assert len(errors) == 2


def test_the_reference_passes_on_a_cpu_with_other_sizes(ran: dict[str, Ran]) -> None:
    code, config, _ = ran["cpu"]
    assert ran["cpu"].errors == []
    assert code == 0
    assert (config.trainer.device, config.guidelines.grader.name) == ("cpu", "math_verify")


def test_a_store_and_a_reward_manager_that_fail_are_refused_together(ran: dict[str, Ran]) -> None:
    assert ran["wrong"].code == 2
    errors = ran["wrong"].errors
    assert any("reward.reward_manager.module.path" in line and "No module named 'no'" in line for line in errors)
    assert any("ppo_mini_batch_size" in line for line in errors)
