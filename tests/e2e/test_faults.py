"""What the real loop does when its solver or its grader fails: two runs on the tiny model, broken again and again.

pytest tests/e2e/test_faults.py -m slow -s     # about 6 minutes; prints a table
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

from guidelines_core.grading.pool import GradingPool
from guidelines_core.paths import ROOT
from tests.support.faulty_reward import OUTAGE_S, PLAN, RAISING
from tests.support.tiny_run import PROMPTS, ROLLOUTS, command

pytestmark = pytest.mark.slow

STEP = PROMPTS * ROLLOUTS


@dataclass(frozen=True)
class Run:
    """A run in `folder`, from several starts."""

    folder: Path

    @property
    def directory(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> str:
        logs = sorted(self.directory.glob("logs/attempt-*.log"))
        return logs[-1].read_text(errors="replace") if logs else ""

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start run.py; its own output goes to a file."""
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}", "COLUMNS": "200"}
        with (self.folder / "output").open("a") as output:
            return subprocess.Popen(
                command(self.folder, *more), cwd=self.folder, env=environment, stdout=output, stderr=output, text=True
            )

    @property
    def steps(self) -> dict[int, dict[str, Any]]:
        """The metrics of each step, over all starts."""
        found: dict[int, dict[str, Any]] = {}
        for journal in sorted(self.directory.glob("logs/attempt-*.jsonl")):
            for line in journal.read_text().splitlines():
                entry = json.loads(line)
                found.setdefault(entry["step"], {}).update(entry["data"])
        return {step: metrics for step, metrics in found.items() if "training/global_step" in metrics}

    @property
    def rows(self) -> pd.DataFrame:
        """Every graded rollout that was trained on."""
        return pd.concat([pd.read_parquet(file) for file in sorted(self.directory.glob("rows/train_*.parquet"))])

    @property
    def mlflow(self) -> Any:
        claim = json.loads((self.directory / "claim.json").read_text())
        return MlflowClient(claim["tracking_uri"]).get_run(claim["run_id"])

    def solver(self) -> tuple[str, list[psutil.Process]]:
        """Return the address and the processes of the solver's newest server."""
        address, pids = re.findall(r"solver server 0: (\S+), processes ([\d ]+)", self.log)[-1]
        return address, [psutil.Process(int(pid)) for pid in pids.split()]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def no_reward_is_invented(rows: pd.DataFrame) -> None:
    """Check that every reward that was trained on is what the grader says of the stored solution."""
    with GradingPool() as pool:
        futures = [pool.submit(gold, solution) for gold, solution in zip(rows["gold"], rows["solution"], strict=True)]
        verdicts = [future.result()["math_verify"] for future in futures]
    assert [float(verdict.correct) for verdict in verdicts] == rows["score"].tolist()
    assert [verdict.reason for verdict in verdicts] == rows["reason"].tolist()


def show(title: str, steps: dict[int, dict[str, Any]], faults: dict[int, str]) -> None:
    keys = ("timing_s/gen", "solver/retries", "solver/restarts", "solver/down_s", "reward/graded", "reward/ungraded")
    table = Table(
        "step", "fault", "gen, s", "retries", "restarts", "solver gone, s", "graded", "no verdict", title=title
    )
    for step, metrics in sorted(steps.items()):
        table.add_row(str(step), faults.get(step, ""), *(f"{metrics.get(key, 0):.4g}" for key in keys))
    Console(width=110).print(table)


def reward_in(folder: Path) -> list[str]:
    """Return the overrides that put `faulty_reward.py` in the place of the project's reward manager.

    All problems are trained on, with a solution to each guideline whose verdict is the reward.
    """
    return [
        "guidelines.data.pass_rate=null",
        "guidelines.solver.samples=1",
        "guidelines.grader.leak=flag",
        "reward.reward_manager.module.path=pkg://tests.support.faulty_reward",
        "reward.reward_manager.name=FaultyRewardManager",
        f"+guidelines.environment.FAULTS={folder}",
    ]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose solver's answers are spoilt, with a fault in most of its eight steps."""
    run = Run(tmp_path_factory.mktemp("spoilt"))
    (run.folder / "plan").touch()
    process = run.start(
        *reward_in(run.folder),
        "guidelines.data.size=32",
        "trainer.total_training_steps=8",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
    )
    code = process.wait(timeout=500)
    assert code == 0, (run.folder / "output").read_text()[-3000:] + run.log[-3000:]
    show("the solver's answers spoilt, a fault a step", run.steps, PLAN)
    return run


def test_spoilt_answers_are_asked_for_again(spoilt: Run) -> None:
    assert spoilt.mlflow.info.status == "FINISHED"
    for step, metrics in spoilt.steps.items():
        fault = PLAN.get(step)
        assert metrics["reward/graded"] == (STEP - RAISING if fault == "raises" else STEP)
        assert metrics["reward/ungraded"] == (RAISING if fault == "raises" else 0)
        if fault in ("garbage", "empty", "half"):
            # At least once each: a connection that the server closed is tried again as well.
            assert metrics["solver/retries"] >= metrics["solver/asked"]
        elif fault == "500s":
            assert metrics["solver/retries"] >= metrics["solver/asked"]
            assert OUTAGE_S < metrics["timing_s/gen"] < OUTAGE_S + 25
        else:
            assert metrics["solver/retries"] == 0
    assert spoilt.steps[6]["reward/ungraded_reward_error"] == RAISING


def test_only_what_the_solver_wrote_is_graded(spoilt: Run) -> None:
    written = {json.loads(line) for line in (spoilt.folder / "solver.jsonl").read_text().splitlines()}
    assert set(spoilt.rows["solution"]) <= written
    assert set(spoilt.rows["reason"]) <= {"correct", "wrong", "no_answer"}
    no_reward_is_invented(spoilt.rows)


KILLED, STOPPED, LOST, LAST = 2, 4, 6, 7
"""The steps in which the solver is killed, stopped, and lost, and the run's last step."""


@dataclass(frozen=True)
class Broken:
    """How the run with the broken solver went: its first start ended with `exit_code`, and was resumed."""

    run: Run
    exit_code: int
    status: str
    reason: str
    saved_at: str
    resumed_code: int


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """A run whose solver is killed, stopped with SIGSTOP, and at last killed when its weights are gone."""
    run = Run(tmp_path_factory.mktemp("broken"))
    model, away = run.folder / "solver", run.folder / "away"
    shutil.copytree(ROOT / "models/tiny-random", model)
    overrides = [
        *reward_in(run.folder),
        f"guidelines.solver.model={model}",
        # Long enough that a signal meets it at work.
        "guidelines.solver.max_tokens=200",
        "guidelines.solver.ignore_eos=True",
        "guidelines.solver.probe_every_s=1",
        "guidelines.solver.probe_s=8",
        "guidelines.solver.restart_within_s=90",
        "guidelines.data.size=28",
        f"trainer.total_training_steps={LAST}",
        "trainer.test_freq=-1",
        f"trainer.save_freq={LAST}",
    ]
    process = run.start(*overrides)
    for step, number in ((KILLED, signal.SIGKILL), (STOPPED, signal.SIGSTOP), (LOST, signal.SIGKILL)):
        # The step's fourth guideline has come in: the solver is at work.
        wait_for(partial(arrived, run.folder, (step - 1) * STEP + 4), process)
        _, processes = run.solver()
        if step == LOST:
            model.rename(away)
        for one in processes:
            one.send_signal(number)
    code = process.wait(timeout=300)
    info, tags = run.mlflow.info, run.mlflow.data.tags
    tracker = run.directory / "latest_checkpointed_iteration.txt"
    saved_at = tracker.read_text() if tracker.exists() else "nothing"
    away.rename(model)
    resumed = run.start(*overrides, "--resume").wait(timeout=300)
    faults = {KILLED: "solver killed", STOPPED: "solver stopped (SIGSTOP)", LOST: "lost for good; resumed"}
    show("the solver broken, a fault a step", run.steps, faults)
    return Broken(run, code, info.status, tags["guidelines.end"], saved_at, resumed)


def arrived(folder: Path, rollouts: int) -> bool:
    """Say whether so many rollouts came in to be graded."""
    text = (folder / "arrived").read_text() if (folder / "arrived").exists() else ""
    return int(text or 0) >= rollouts


def test_a_killed_or_stopped_solver_is_brought_back_and_its_step_goes_on(broken: Broken) -> None:
    for step in (KILLED, STOPPED):
        metrics = broken.run.steps[step]
        assert metrics["solver/restarts"] == 1
        assert metrics["solver/retries"] > 0
        assert metrics["reward/graded"] == STEP
        assert metrics["reward/ungraded"] == 0
    assert broken.run.steps[KILLED + 1]["solver/restarts"] == 0


def test_a_lost_solver_ends_the_run_with_its_last_step_saved(broken: Broken) -> None:
    assert broken.exit_code == 1
    assert broken.status == "FAILED"
    assert "SolverLostError" in broken.reason
    assert "restart_within_s=90" in broken.reason
    assert broken.saved_at == str(LOST - 1)


def test_it_is_resumed_at_the_step_where_the_solver_was_lost(broken: Broken) -> None:
    assert broken.resumed_code == 0
    assert broken.run.mlflow.info.status == "FINISHED"
    assert sorted(broken.run.steps) == list(range(1, LAST + 1))
    rows = broken.run.rows
    assert rows.groupby("step").size().to_dict() == dict.fromkeys(range(1, LAST + 1), STEP)
    # The data go on behind the last step that was trained on: no problem is left out or seen twice.
    assert rows["problem_id"].nunique() == LAST * PROMPTS
    no_reward_is_invented(rows)
