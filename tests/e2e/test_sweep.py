"""A real sweep on the tiny model: killed, continued after an engine was killed, exported and confirmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow.entities
import optuna
import psutil
import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from guidelines_core.launch.processes import alive
from guidelines_core.paths import CONF, ROOT
from guidelines_core.runs.cost import HOURS
from guidelines_core.verl_adapter.trials import GAP, WALL
from sweeps.attributes import ATTEMPT, CAUSE, REFERENCE
from sweeps.cost import of_study
from sweeps.leftovers import WORKER
from sweeps.study import counted
from sweeps.trainer import is_engine
from tests.support.tiny_run import problems

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TRIALS = 5
EXPORTED = f"swept-by-test-{os.getpid()}"


@dataclass(frozen=True)
class Sweep:
    """What two starts of a sweep left."""

    folder: Path
    study: optuna.Study
    left_after_kill: list[str]
    output: str
    seconds: float

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that count."""
        return counted(self.study.get_trials())

    @property
    def runs(self) -> list[mlflow.entities.Run]:
        """The MLflow runs below the study's own."""
        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        parent = self.study.user_attrs["mlflow_run"]
        experiment = client.get_run(parent).info.experiment_id
        found = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
        return sorted(found, key=lambda run: run.info.start_time)

    def steps(self, name: str) -> list[dict[str, float]]:
        """Return a trial's steps."""
        (file,) = self.folder.glob(f"run-sweep/*/trials/{name}.jsonl")
        entries = [json.loads(line)["data"] for line in file.read_text().splitlines()]
        return [entry for entry in entries if WALL in entry]


def start(folder: Path) -> subprocess.Popen[str]:
    overrides = {
        "guidelines.data.source": problems(folder / "odd.jsonl"),
        "guidelines.data.size": 32,
        "guidelines.data.val_size": 4,
        "actor_rollout_ref.actor.optim.lr": 0.01,
        "trainer.default_local_dir": folder / "run",
    }
    command = [
        sys.executable, str(ROOT / "sweeps/throughput.py"), "--name", "tiny", "--trials", str(TRIALS),
        "--truncated", "1", "--steps", "2", "--export", EXPORTED, "--confirm",
        "--storage", f"sqlite:///{folder / 'optuna.db'}", *(f"{key}={value}" for key, value in overrides.items()),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "COLUMNS": "200"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str], lines: int = 1) -> None:
    """Wait until a file that fits the pattern has so many lines."""
    while process.poll() is None:
        if any(len(file.read_text().splitlines()) >= lines for file in folder.glob(pattern)):
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate()[0])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("sweep")
    killed = start(folder)
    wait_for(folder, "run-sweep/*/trials/trial-0000.jsonl", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    worker = f"{killed.pid}:"
    deadline = time.monotonic() + 20
    while (left := of_worker(worker)) and time.monotonic() < deadline:
        time.sleep(0.2)
    began = time.monotonic()
    again = start(folder)
    wait_for(folder, "run-sweep/*/trials/trial-0002.jsonl", again)
    engines = [process for process in psutil.Process(again.pid).children(recursive=True) if is_engine(process)]
    assert engines
    engines[-1].kill()
    output, _ = again.communicate(timeout=900)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'optuna.db'}")
    yield Sweep(folder, study, left, output, time.monotonic() - began)
    (CONF / f"{EXPORTED}.yaml").unlink(missing_ok=True)


def of_worker(worker: str) -> list[str]:
    """Describe what runs and was started by a sweep."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(WORKER, "").startswith(worker) and alive(process):
                found.append(f"{process} below {process.ppid()}: {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


def test_a_killed_sweep_leaves_no_process(sweep: Sweep) -> None:
    assert sweep.left_after_kill == []


def test_the_same_command_finishes_the_study(sweep: Sweep) -> None:
    assert "Confirmed" in sweep.output, sweep.output
    assert len(sweep.trials) == TRIALS
    assert all(trial.state.is_finished() for trial in sweep.study.get_trials())
    retried = [trial for trial in sweep.study.get_trials() if trial.system_attrs.get("failed_trial") == 0]
    assert [REFERENCE in trial.user_attrs for trial in retried] == [True]


def test_a_killed_engine_is_one_trials_failure(sweep: Sweep) -> None:
    failed = [trial for trial in sweep.study.get_trials() if CAUSE in trial.user_attrs]
    assert [trial.user_attrs[CAUSE].split(":")[0] for trial in failed] == ["solver lost"]
    again = [trial for trial in sweep.trials if trial.user_attrs.get(ATTEMPT) == 1]
    assert [(trial.params, trial.state) for trial in again] == [(failed[0].params, TrialState.COMPLETE)]
    assert [run.info.status for run in sweep.runs].count("FAILED") == 1
    assert [run.info.run_name for run in sweep.runs if run.info.status == "RUNNING"] == []
    assert [run.info.run_name for run in sweep.runs if run.info.status == "KILLED"][:1] == ["trial-0000"]
    later = [trial for trial in sweep.trials if trial.number > failed[0].number]
    assert any(trial.state == TrialState.COMPLETE for trial in later)


def test_each_trial_is_a_run_below_the_studys(sweep: Sweep) -> None:
    finished = {run.info.run_name: run for run in sweep.runs if run.info.status == "FINISHED"}
    for trial in sweep.trials:
        if trial.state != TrialState.COMPLETE:
            continue
        run = finished[f"trial-{trial.number:04d}"]
        assert run.data.params["sweep/data.train_batch_size"] == str(trial.params["data.train_batch_size"])
        assert run.data.metrics["sweep/graded_rollouts_per_s"] == pytest.approx(trial.value)
        assert run.data.metrics["sweep/peak_memory_gb/host"] > 1
        assert "3_health/kl" in run.data.metrics
        # Its steps' own records count from when it was asked for, and not from when its trainer was started.
        assert 0 < run.data.metrics["4_cost/hours"] <= trial.user_attrs[HOURS]
    study = MlflowClient(f"sqlite:///{sweep.folder / 'mlflow.db'}").get_run(sweep.study.user_attrs["mlflow_run"])
    assert study.data.metrics["4_cost/hours"] == pytest.approx(of_study(sweep.study.get_trials())[HOURS])


def test_every_step_has_the_trials_rollouts_and_none_is_padding(sweep: Sweep) -> None:
    for trial in sweep.trials:
        if trial.state != TrialState.COMPLETE:
            continue
        for step in sweep.steps(f"trial-{trial.number:04d}"):
            batch, n = trial.params["data.train_batch_size"], trial.params["actor_rollout_ref.rollout.n"]
            assert step["reward/graded"] == batch * n
            assert step["response_length/max"] <= trial.params["data.max_response_length"]
            assert step["training/rollout_probs_diff_max"] < 1e-4


def test_each_trial_begins_with_the_first_model_and_soon(sweep: Sweep) -> None:
    names = [f"trial-{trial.number:04d}" for trial in sweep.trials if trial.state == TrialState.COMPLETE]
    first = [sweep.steps(name)[0] for name in names]
    # The reference policy is the first model; with another one the divergence from it is not 0.
    assert [step["actor/kl_loss"] for step in first] == pytest.approx([0.0] * len(first), abs=1e-6)
    assert max(sweep.steps(name)[-1]["actor/kl_loss"] for name in names) > 1e-4
    gaps = [step[GAP] for step in first if GAP in step]
    assert gaps
    assert max(gaps) < 5  # 2 s where nothing else runs


def test_the_page_and_the_plots_are_there(sweep: Sweep) -> None:
    (folder,) = sweep.folder.glob("run-sweep/*/plots")
    assert {file.name for file in folder.iterdir()} >= {"study.html", "optimization_history.png", "slice.png"}
    page = (folder / "study.html").read_text()
    assert "<script src" not in page
    assert "Plotly.newPlot" in page


def test_the_export_is_an_experiment(sweep: Sweep) -> None:
    dry = [sys.executable, str(ROOT / "experiments/run.py"), "--name", EXPORTED, "--dry-run"]
    done = subprocess.run(dry, capture_output=True, text=True, cwd=sweep.folder)
    assert done.returncode == 0, done.stderr
    best = max((t for t in sweep.trials if t.value is not None), key=lambda trial: trial.value or 0)
    assert f"train_batch_size: {best.params['data.train_batch_size']}" in done.stdout
    assert "total_training_steps: 5" in done.stdout
