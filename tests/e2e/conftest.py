"""One run of the real loop, looked at from many sides: a tiny random model, interrupted, resumed and finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow.entities
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from guidelines_core.paths import ROOT
from guidelines_core.runs.checkpoints import SEAL
from guidelines_core.runs.metric_names import shown
from tests.support.postgres import Server, binaries

STEPS = 4
PROMPTS = 4
ROLLOUTS = 4
EXPERIMENT = "query-conditioned-guidelines"
SEGMENTS = ("psm_*", "verl_weights_*", "sem.loky-*")
"""Names under /dev/shm of what Python, verl and joblib (in vLLM's engine) leave there when they are killed."""


@dataclass(frozen=True)
class Attempt:
    """How one start of run.py ended, and the addresses at which its processes listened when it was interrupted."""

    exit_code: int
    output: str
    seconds_to_end: float
    listening: frozenset[str]


@dataclass(frozen=True)
class Loop:
    """A run that was interrupted after its second step, resumed, asked to stop in its third, and finished.

    A resume with another learning rate was refused, and before the last start its newest checkpoint was broken.
    """

    directory: Path
    uri: str
    interrupted: Attempt
    status_when_interrupted: str
    refused: Attempt
    changed: Attempt
    terminated: Attempt
    resumed: Attempt
    again: Attempt
    left_in_shared_memory: set[str]

    @property
    def run(self) -> mlflow.entities.Run:
        """The one MLflow run."""
        client = MlflowClient(self.uri)
        claim = json.loads((self.directory / "claim.json").read_text())
        return client.get_run(claim["run_id"])

    def artifacts(self) -> set[str]:
        """Return the names of the run's artifacts at the top."""
        return {item.path for item in MlflowClient(self.uri).list_artifacts(self.run.info.run_id)}

    def rows(self, kind: str) -> pd.DataFrame:
        """Return every graded row of the run, downloaded from MLflow's artifacts."""
        client = MlflowClient(self.uri)
        run_id = self.run.info.run_id
        files = [item.path for item in client.list_artifacts(run_id, "rows") if f"/{kind}_" in item.path]
        tables = [pd.read_parquet(client.download_artifacts(run_id, file)) for file in sorted(files)]
        return pd.concat(tables, ignore_index=True)

    def metric(self, name: str) -> dict[int, float]:
        """Return the value at each step of a metric, by its name in the journal."""
        history = MlflowClient(self.uri).get_metric_history(self.run.info.run_id, shown(name))
        return {m.step: m.value for m in sorted(history, key=lambda metric: metric.timestamp)}


def problems(path: Path) -> Path:
    """Write problems whose gold is 0 or 1, which is what the tiny model's texts answer, each half of the time."""
    lines = [{"problem": f"Is {n} odd? Say 1 for yes, 0 for no.", "answer": str(n % 2)} for n in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(folder: Path, *more: str) -> list[str]:
    """Return the command line of the tiny run, whose files all lie in `folder`."""
    overrides = {
        "guidelines.data.source": problems(folder / "odd.jsonl"),
        "guidelines.data.size": STEPS * PROMPTS,
        "guidelines.data.val_size": 4,
        "guidelines.prompts.style": "instruct",
        "actor_rollout_ref.rollout.temperature": 1.0,
        "guidelines.solver.model": "models/tiny-random",
        # In bfloat16 an answer depends on what else was in its batch.
        "reward.reward_model.rollout.dtype": "float32",
        "guidelines.solver.max_tokens": 16,
        "guidelines.solver.temperature": 1.0,
        # Often enough to meet the solutions in their batches, whose sampling it must not disturb.
        "guidelines.solver.probe_every_s": 0.5,
        "actor_rollout_ref.model.path": "models/tiny-random",
        "actor_rollout_ref.actor.optim.lr": 0.01,
        "actor_rollout_ref.rollout.n": ROLLOUTS,
        "data.max_prompt_length": 512,
        "data.max_response_length": 16,
        "data.train_batch_size": PROMPTS,
        "trainer.total_training_steps": STEPS,
        "trainer.save_freq": 2,
        "trainer.test_freq": STEPS,
        "trainer.default_local_dir": folder / "run",
    }
    return [
        sys.executable,
        str(ROOT / "experiments/run.py"),
        "--name",
        "quickstart",
        *(f"{key}={value}" for key, value in overrides.items()),
        *more,
    ]


SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted-key-8d1f", "HF_TOKEN": "planted-token-27ab"}
"""In the environment of every start; they must turn up nowhere."""


def start(
    folder: Path,
    *more: str,
    uri: str | None = None,
    stop_when: Callable[[], bool] | None = None,
    stop_by: int = signal.SIGINT,
) -> Attempt:
    """Run the command to its end, or send it `stop_by` as soon as `stop_when` holds."""
    environment = {
        **os.environ,
        **SECRETS,
        "MLFLOW_TRACKING_URI": uri or f"sqlite:///{folder / 'mlflow.db'}",
        "COLUMNS": "200",
    }
    process = subprocess.Popen(
        command(folder, *more),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    began = time.monotonic()
    addresses: frozenset[str] = frozenset()
    while stop_when is not None and process.poll() is None:
        if stop_when():
            addresses = listening(process.pid)
            process.send_signal(stop_by)
            began = time.monotonic()
            break
        time.sleep(0.05)
    output, _ = process.communicate(timeout=600)
    return Attempt(process.returncode, output, time.monotonic() - began, addresses)


def listening(pid: int) -> frozenset[str]:
    """Return the addresses at which process `pid` and its descendants take TCP connections."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return frozenset(
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    )


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    before = segments()
    sealed, second_log = folder / "run/global_step_2" / SEAL, folder / "run/logs/attempt-2.log"
    interrupted = start(folder, stop_when=sealed.exists)
    claim = json.loads((folder / "run" / "claim.json").read_text())
    status = MlflowClient(uri).get_run(claim["run_id"]).info.status
    refused = start(folder)
    changed = start(folder, "--resume", "actor_rollout_ref.actor.optim.lr=0.5")
    terminated = start(
        folder,
        "--resume",
        "guidelines.solver.max_concurrency=64",
        stop_when=lambda: second_log.exists() and "Training Progress" in second_log.read_text(),
        stop_by=signal.SIGTERM,
    )
    flip_a_bit(folder / "run/global_step_3/actor/model_world_size_1_rank_0.pt")
    resumed = start(folder, "--resume")
    again = start(folder, "--resume")
    left = segments() - before
    return Loop(folder / "run", uri, interrupted, status, refused, changed, terminated, resumed, again, left)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """The same run, never interrupted; recorded in PostgreSQL with a password, where there is one."""
    folder = tmp_path_factory.mktemp("unbroken")
    programs = binaries()
    server = Server(programs) if programs else None
    uri = server.uri if server else f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment(EXPERIMENT, artifact_location=(folder / "mlruns").as_uri())
    attempt = start(folder, uri=uri)
    assert attempt.exit_code == 0, attempt.output
    yield Loop(folder / "run", uri, attempt, "", attempt, attempt, attempt, attempt, attempt, set())
    if server:
        server.remove()


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def segments() -> set[str]:
    """Return the names of what lies in shared memory and is named as a run's things are."""
    return {segment.name for pattern in SEGMENTS for segment in Path("/dev/shm").glob(pattern)}
