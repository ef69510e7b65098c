"""The real loop when some rollouts get no verdict: what it learns from, counts, shows, and when it stops."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from guidelines_core.runs.checkpoints import last_checkpoint
from tests.e2e.conftest import Attempt, start


@dataclass(frozen=True)
class Losing:
    """A run that loses more rollouts in each step, and at last more than it may."""

    attempt: Attempt
    directory: Path
    uri: str

    @property
    def steps(self) -> dict[int, dict[str, float]]:
        lines = map(json.loads, (self.directory / "logs/attempt-1.jsonl").read_text().splitlines())
        return {line["step"]: line["data"] for line in lines if "training/global_step" in line["data"]}

    def rows(self, step: int) -> pd.DataFrame:
        return pd.read_parquet(self.directory / f"rows/train_{step:06d}.parquet")


@pytest.fixture(scope="module")
def losing(tmp_path_factory: pytest.TempPathFactory) -> Losing:
    folder = tmp_path_factory.mktemp("losing")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    attempt = start(
        folder,
        "reward.reward_manager.module.path=pkg://tests.support.losing_reward",
        "reward.reward_manager.name=LosingRewardManager",
        "trainer.save_freq=4",
        "trainer.test_freq=-1",
        uri=uri,
    )
    return Losing(attempt, folder / "run", uri)


def test_a_groups_only_survivor_teaches_nothing(losing: Losing) -> None:
    rows = losing.rows(2)
    sizes = rows.groupby("group").size().sort_values().tolist()
    assert sizes == [1, 4, 4, 4]
    assert rows["score"].tolist() == [1.0] * 13
    assert rows["advantage"].abs().max() == 0


def test_losses_are_counted(losing: Losing) -> None:
    first, second = losing.steps[1], losing.steps[2]
    assert first["reward/lost_rollouts"] == 0.25
    assert first["reward/incomplete_groups"] == 1.0
    assert first["reward/lone_groups"] == 0.0
    assert second["reward/lost_rollouts"] == 3 / 16
    assert second["reward/lone_groups"] == 0.25
    assert second["reward/ungraded_reward_error"] == 3


def test_losing_too_many_ends_the_run_by_name_with_its_last_step_saved(losing: Losing) -> None:
    assert losing.attempt.exit_code == 1
    run = MlflowClient(losing.uri).get_run(json.loads((losing.directory / "claim.json").read_text())["run_id"])
    assert run.info.status == "FAILED"
    said = "TooManyLostError: step 3: 12 of 16 rollouts got no verdict (reward/ungraded_reward_error 12)"
    assert said in run.data.tags["guidelines.end"]
    assert last_checkpoint(losing.directory) == 2


def test_the_closing_table_says_it(losing: Losing) -> None:
    assert "21.9% of all, 25.0% of a step at most" in losing.attempt.output
