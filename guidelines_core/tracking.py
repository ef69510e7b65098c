"""The MLflow run of an experiment and its claim on a checkpoint directory."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import mlflow
import mlflow.data
import pandas as pd
import psutil
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import MLFLOW_DATABASE, ROOT
from guidelines_core.prompts import VERSION as PROMPTS_VERSION

CLAIM = "claim.json"
LOCK = ".lock"


class ClaimError(RuntimeError):
    """A checkpoint directory belongs to another run, and nobody said what to do about it."""


@dataclass(frozen=True)
class Claim:
    """Which MLflow run owns a checkpoint directory.

    Attributes:
        run_id: the MLflow run.
        run_name: its name, which is the directory's too.
        tracking_uri: the store that holds it.
        directory: the checkpoint directory, absolute.
    """

    run_id: str
    run_name: str
    tracking_uri: str
    directory: str


def tracking_uri() -> str:
    """Return the MLflow store: the environment's, else a SQLite file at the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DATABASE}"


class Run:
    """One MLflow run that owns one checkpoint directory, for as long as this object holds the directory's lock."""

    def __init__(self, claim: Claim, lock: TextIO) -> None:
        self.claim = claim
        self._lock = lock
        self.client = MlflowClient(claim.tracking_uri)

    @property
    def directory(self) -> Path:
        """The checkpoint directory."""
        return Path(self.claim.directory)

    @property
    def status(self) -> str:
        """The run's MLflow status."""
        return str(self.client.get_run(self.claim.run_id).info.status)

    def record(self, config: DictConfig) -> None:
        """Log what is known before the first step: configuration, data set, commit, versions and hardware."""
        run_id = self.claim.run_id
        self.client.log_text(run_id, OmegaConf.to_yaml(config), "config.yaml")
        for key, value in provenance().items():
            self.client.set_tag(run_id, key, value)
        mlflow.set_tracking_uri(self.claim.tracking_uri)
        with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
            # MLflow warns that two names of one class could read a local file.
            warnings.simplefilter("ignore", UserWarning)
            for context, key in (("training", "train_files"), ("validation", "val_files")):
                file = config.data[key]
                rows = pd.read_parquet(file, columns=["data_source", "extra_info", "reward_model"])
                problems = pd.DataFrame(
                    {
                        "question": [info["question"] for info in rows["extra_info"]],
                        "gold": [model["ground_truth"] for model in rows["reward_model"]],
                    }
                )
                name = str(rows["data_source"].iloc[0])
                mlflow.log_input(mlflow.data.from_pandas(problems, source=file, name=name), context=context)
            manifest = Path(config.data.train_files).parent / "manifest.json"
            if manifest.exists():
                mlflow.log_artifact(str(manifest))
        self.client.update_run(run_id, status="RUNNING")

    def finish(self, status: str, reason: str, log: Path) -> None:
        """Set the run's last word: `status` FINISHED, FAILED or KILLED, its reason, and the log's last lines."""
        run_id = self.claim.run_id
        if status != "FINISHED":
            lines = log.read_text(errors="replace").splitlines()[-200:]
            self.client.log_text(run_id, "\n".join(lines), f"log_tail/{log.name}")
        self.client.set_tag(run_id, "guidelines.end", reason)
        self.client.set_terminated(run_id, status)

    def release(self) -> None:
        """Give up the directory's lock."""
        self._lock.close()


def claim(config: DictConfig, *, resume: bool, new: bool) -> Run:
    """Take a run and its checkpoint directory, atomically; `config` gets the name that was taken.

    The directory comes into being with its lock held, which only one of several starts can win; the lock lasts while
    the run is alive. Without `resume` or `new` a directory that is there already is refused.

    Raises:
        ClaimError: the directory is taken.
    """
    wanted = Path(config.trainer.default_local_dir)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    directory = wanted
    number = 1
    while (lock := _make_locked(directory)) is None:
        if not new:
            run = _owner(directory)
            if resume:
                return run
            description = describe(run)
            run.release()
            raise ClaimError(f"{description}\nGo on with it: --resume. Start afresh beside it: --new.")
        number += 1
        directory = wanted.with_name(f"{wanted.name}-{number}")
    run_name = config.trainer.experiment_name if number == 1 else f"{config.trainer.experiment_name}-{number}"
    config.trainer.experiment_name = run_name
    config.trainer.default_local_dir = str(directory)
    uri = tracking_uri()
    client = MlflowClient(uri)
    run_id = client.create_run(
        experiment_id(client, config.trainer.project_name),
        run_name=run_name,
        tags={
            "guidelines.checkpoints": str(directory),
            "guidelines.prompts": PROMPTS_VERSION,
            "mlflow.source.name": "experiments/run.py",
            "mlflow.source.type": "LOCAL",
        },
    ).info.run_id
    claimed = Claim(run_id=run_id, run_name=run_name, tracking_uri=uri, directory=str(directory))
    (directory / CLAIM).write_text(json.dumps(asdict(claimed), indent=1))
    return Run(claimed, lock)


def _make_locked(directory: Path) -> TextIO | None:
    """Make `directory` and return its lock, held; return None if the directory is there already.

    It is made under another name and renamed, so that nobody ever sees it without its lock.
    """
    if directory.exists():
        return None
    making = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    lock = _locked(making)
    making.chmod(0o755)
    try:
        making.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        lock.close()
        shutil.rmtree(making)
        return None
    return lock


def _owner(directory: Path) -> Run:
    """Return the run that owns `directory`; one that says RUNNING though nobody holds its lock has died."""
    lock = _locked(directory)
    try:
        claimed = Claim(**json.loads((directory / CLAIM).read_text()))
    except FileNotFoundError:
        raise ClaimError(
            f"{directory} is there and belongs to no run: expected {CLAIM} in it. "
            "Move it away, or use --new to start beside it"
        ) from None
    run = Run(claimed, lock)
    if run.status == "RUNNING":
        run.client.set_tag(claimed.run_id, "guidelines.end", "its process was gone when the next start looked")
        run.client.set_terminated(claimed.run_id, "FAILED")
    return run


def _locked(directory: Path) -> TextIO:
    """Return the open lock file of `directory`; the lock ends with the process that holds it."""
    lock = (directory / LOCK).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip() or "unknown"
        lock.close()
        raise ClaimError(
            f"{directory} is in use by a run that is alive (process {pid}): wait for it or end it"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def describe(run: Run) -> str:
    """Return what stands at a run's directory: its status, steps and age."""
    info = run.client.get_run(run.claim.run_id).info
    started = datetime.fromtimestamp(info.start_time / 1000, timezone.utc)
    minutes = (datetime.now(timezone.utc) - started).total_seconds() / 60
    return (
        f"{run.claim.run_name} is there already: MLflow run {run.claim.run_id}, {info.status}, "
        f"last checkpoint at step {last_checkpoint(run.directory)}, started {minutes:.0f} min ago, in {run.directory}."
    )


def last_checkpoint(directory: Path) -> int:
    """Return the step of the newest checkpoint that verl wrote to its end, 0 if there is none."""
    try:
        return int((directory / "latest_checkpointed_iteration.txt").read_text())
    except FileNotFoundError:
        return 0


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of MLflow experiment `name`, made if needed; a SQLite store's artifacts lie beside its file."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    database = client.tracking_uri.removeprefix("sqlite:///")
    location = (Path(database).resolve().parent / "mlruns").as_uri() if database != client.tracking_uri else None
    # MLflow's page would otherwise guess that this is about prompts and hide the metrics' columns and charts.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=location, tags=kind))


def provenance() -> dict[str, str]:
    """Return the tags that say where a run came from: commit, versions, hardware."""
    commit, changed = _git("rev-parse", "HEAD") or "none", _git("status", "--porcelain")
    packages = ("verl", "vllm", "torch", "ray", "transformers", "math-verify", "mlflow")
    return {
        "mlflow.source.git.commit": commit,
        "git.changed": str(bool(changed)).lower(),
        "python": platform.python_version(),
        **{f"version.{name}": version(name) for name in packages},
        "hardware.cpu": f"{psutil.cpu_count()} x {_cpu_model()}",
        "hardware.memory_gb": f"{psutil.virtual_memory().total / 1e9:.0f}",
    }


def _git(*arguments: str) -> str:
    """Return what git says of the repository, nothing where it is no repository or git is not installed."""
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
