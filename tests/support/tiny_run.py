"""The end-to-end tests' run: a tiny random model, four steps of sixteen rollouts with four solutions each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import mlflow.entities
import pandas as pd
import psutil
from mlflow import MlflowClient

from guidelines_core.launch.shared_memory import Segment, mapped, present
from guidelines_core.paths import ROOT
from guidelines_core.runs.journal import STEP, Entry, Journal, attempts, history
from guidelines_core.runs.metric_names import recorded, shown
from tests.support.warm_python import STARTS, warm_python

STEPS = 4
PROMPTS = 4
ROLLOUTS = 4
SAMPLES = 4
VALIDATION_TOKENS = 24
PROBLEMS = 40
PASS_RATES = (0.2, 0.8)
EXPERIMENT = "query-conditioned-guidelines"
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted-key-8d1f", "HF_TOKEN": "planted-token-27ab"}
"""In the environment of every start; they must turn up nowhere."""

SEGMENTS = ("psm_*", "verl_weights_*", "sem.loky-*")
"""Names under /dev/shm of what Python, verl and joblib (in vLLM's engine) leave there when they are killed."""

WITH_DRIVER = """
import multiprocessing.spawn, os, sys, types
sys.path.insert(0, "experiments")
import run
from guidelines_core.launch.training import PrelaunchedDriver
from guidelines_core.preflight import probe
run.PrelaunchedDriver = lambda config, **more: PrelaunchedDriver(config, {driver!r}, **more)
probe.sys = types.SimpleNamespace(executable=os.fsdecode(multiprocessing.spawn.get_executable()))
sys.exit(run.main())
"""
"""run.py with another module than `guidelines_core.launch.driver` as the run's driver; its preflight is forked, too."""

ONCE = "tests.support.once_driver"
"""The driver of a start that is to take fewer CPU seconds than the run's own."""

IDLE = "tests.support.idle_driver"
"""The driver of a start that ends before it trains: the run's own would do its imports for nothing."""


@dataclass(frozen=True)
class Attempt:
    """How one start of run.py ended, and the addresses at which its processes listened when it was stopped."""

    exit_code: int
    output: str
    seconds_to_end: float
    listening: frozenset[str]


@dataclass(frozen=True)
class Run:
    """A run's directory and the address of the store that has it."""

    directory: Path
    uri: str

    @property
    def stored(self) -> mlflow.entities.Run:
        """What MLflow has of it."""
        claim = json.loads((self.directory / "claim.json").read_text())
        return MlflowClient(self.uri).get_run(claim["run_id"])

    def artifacts(self) -> set[str]:
        """Return the names of the run's artifacts at the top."""
        return {item.path for item in MlflowClient(self.uri).list_artifacts(self.stored.info.run_id)}

    def metric_names(self) -> set[str]:
        """Return what the journal calls the metrics that MLflow has."""
        return set(map(recorded, self.stored.data.metrics))

    def metric(self, name: str) -> dict[int, float]:
        """Return a metric's last value at each step, as MLflow has it, by its name in the journal."""
        found = MlflowClient(self.uri).get_metric_history(self.stored.info.run_id, shown(name))
        return {m.step: m.value for m in sorted(found, key=lambda metric: metric.timestamp)}

    def rows(self, kind: str = "train") -> pd.DataFrame:
        """Return every row of the run that MLflow has, a row for each graded solution."""
        client, run_id = MlflowClient(self.uri), self.stored.info.run_id
        files = [item.path for item in client.list_artifacts(run_id, "rows") if f"/{kind}_" in item.path]
        tables = [pd.read_parquet(client.download_artifacts(run_id, file)) for file in sorted(files)]
        return pd.concat(tables, ignore_index=True)

    def step_rows(self, step: int, kind: str = "train") -> pd.DataFrame:
        """Return a step's rows in the run's directory."""
        return pd.read_parquet(self.directory / f"rows/{kind}_{step:06d}.parquet")

    def entries(self) -> list[Entry]:
        """Return the journal's entries over all attempts, each step as it went last."""
        return history(Journal(path).entries() for path in attempts(self.directory))

    def steps(self) -> dict[int, dict[str, float]]:
        """Return each training step's metrics in the run's directory."""
        return {entry.step: dict(entry.metrics) for entry in self.entries() if STEP in entry.metrics}


def problems(path: Path) -> Path:
    """Write problems whose gold is 0 or 1, which is what the tiny model's texts answer, each half of the time.

    The rates are made up; `PASS_RATES` holds three problems of five.
    """
    lines = [
        {
            "problem": f"Is {n} odd? Say 1 for yes, 0 for no.",
            "answer": str(n % 2),
            "pass_rate": n % 5 / 4,
            "baseline": n % 3 / 2,
        }
        for n in range(PROBLEMS)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(folder: Path, *more: str, driver: str | None = None) -> list[str]:
    """Return the command line of the tiny run, whose files all lie in `folder`.

    Without a `driver` it is what a user writes; with one, run.py is a fork of a process that has made its imports.
    """
    overrides = {
        "guidelines.data.source": problems(folder / "odd.jsonl"),
        "guidelines.data.size": STEPS * PROMPTS,
        "guidelines.data.val_size": 4,
        "guidelines.data.pass_rate": f"[{PASS_RATES[0]},{PASS_RATES[1]}]",
        "guidelines.prompts.style": "instruct",
        "guidelines.grader.leak": "zero",
        # Two threads wait for each other longer than they compute on a model of this size.
        "guidelines.environment.OMP_NUM_THREADS": "'1'",
        "actor_rollout_ref.rollout.temperature": 1.0,
        "guidelines.solver.model": "models/tiny-random",
        # In bfloat16 an answer depends on what else was in its batch.
        "reward.reward_model.rollout.dtype": "float32",
        "guidelines.solver.samples": SAMPLES,
        "guidelines.solver.max_tokens": 16,
        "guidelines.solver.temperature": 1.0,
        # Often enough to meet the solutions in their batches, whose sampling it must not disturb.
        "guidelines.solver.probe_every_s": 0.5,
        "actor_rollout_ref.model.path": "models/tiny-random",
        "actor_rollout_ref.actor.optim.lr": 0.01,
        "actor_rollout_ref.rollout.n": ROLLOUTS,
        "data.max_prompt_length": 512,
        "data.max_response_length": 16,
        "guidelines.planner.val_max_tokens": VALIDATION_TOKENS,
        "data.train_batch_size": PROMPTS,
        "trainer.total_training_steps": STEPS,
        "trainer.save_freq": 2,
        "trainer.test_freq": STEPS,
        "trainer.default_local_dir": folder / "run",
    }
    program = ["-c", WITH_DRIVER.format(driver=driver)] if driver else [str(ROOT / "experiments/run.py")]
    words = [f"{key}={value}" for key, value in overrides.items()]
    python = warm_python(STARTS) if driver else sys.executable
    return [python, *program, "--name", "quickstart", *words, *more]


def start(
    folder: Path,
    *more: str,
    uri: str | None = None,
    driver: str | None = None,
    stop_when: Callable[[], bool] | None = None,
    stop_by: int = signal.SIGINT,
) -> Attempt:
    """Run the command to its end, or send it `stop_by` as soon as `stop_when` holds."""
    uri = uri or store(folder)
    environment = {**os.environ, **SECRETS, "MLFLOW_TRACKING_URI": uri, "COLUMNS": "200"}
    process = subprocess.Popen(
        command(folder, *more, driver=driver),
        cwd=ROOT if driver else folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    began = time.monotonic()
    addresses: frozenset[str] = frozenset()
    while stop_when is not None and process.poll() is None:
        if stop_when():
            addresses = listening(uri)
            process.send_signal(stop_by)
            began = time.monotonic()
            break
        time.sleep(0.05)
    output, _ = process.communicate(timeout=600)
    return Attempt(process.returncode, output, time.monotonic() - began, addresses)


def store(folder: Path) -> str:
    """Return the address of the MLflow store in `folder`."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def done(directory: Path, step: int) -> bool:
    """Say whether the first attempt has finished `step`."""
    journal = Journal(directory / "logs/attempt-1.jsonl")
    return journal.path.exists() and any(entry.step >= step for entry in journal.entries() if STEP in entry.metrics)


def of_store(uri: str) -> list[psutil.Process]:
    """Return the processes of the runs whose store is `uri`, which is in their environment."""
    return [process for process in psutil.process_iter(["environ"]) if uri in (process.info["environ"] or {}).values()]


def listening(uri: str) -> frozenset[str]:
    """Return the addresses at which the processes of the runs whose store is `uri` take TCP connections."""
    found = set()
    for process in of_store(uri):
        with contextlib.suppress(psutil.Error):  # It ended meanwhile.
            found |= {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return frozenset(found)


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def abandoned() -> set[Segment]:
    """Return what lies in shared memory, is named as a run's things are, and belongs to no process.

    A process maps its segments; a semaphore of joblib has its owner's id in its name.
    """
    named = {segment for segment in present() if any(fnmatch(segment.name, pattern) for pattern in SEGMENTS)}
    alive = {segment for segment in named if segment.name.startswith("sem.") and psutil.pid_exists(owner(segment))}
    return named - alive - mapped(psutil.process_iter())


def owner(semaphore: Segment) -> int:
    """Return the id of the process that made a semaphore of joblib, `sem.loky-ID-…`."""
    return int(semaphore.name.split("-")[1])


def left_since(before: set[Segment], seconds: float = 20) -> set[Segment]:
    """Return what is abandoned and stays so long, without what was there before.

    A run beside this one removes its own as it ends. What was there before may have been given a living process's id as
    owner, and lose it meanwhile.
    """
    deadline = time.monotonic() + seconds
    left = abandoned() - before
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        left &= abandoned()
    return left
