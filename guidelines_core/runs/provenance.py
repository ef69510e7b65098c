"""A run's provenance in MLflow: parameters, data sets, commit, versions, hardware."""

from __future__ import annotations

import platform
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow.data
import pandas as pd
import psutil
from mlflow.entities import Dataset, DatasetInput, InputTag
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.flat import flat
from guidelines_core.hardware.gpus import devices
from guidelines_core.paths import ROOT


def parameters(config: DictConfig) -> dict[str, str]:
    """Return every value of a configuration by its path, `a/b/c`, and a list's by `a/0`, as verl's own logger does."""
    tree = _with_list_items(OmegaConf.to_container(config, resolve=True))
    return {path: str(value) for path, value in flat(tree, "/").items()}


def _with_list_items(value: Any) -> Any:
    """Return a tree whose lists are replaced by mappings of their length and items."""
    if isinstance(value, list):
        value = {"list_len": len(value), **{str(number): item for number, item in enumerate(value)}}
    return {key: _with_list_items(item) for key, item in value.items()} if isinstance(value, dict) else value


def data_sets(config: DictConfig) -> Iterator[DatasetInput]:
    """Yield the run's problems as MLflow's data sets, with a digest and a profile."""
    for context, key in (("training", "train_files"), ("validation", "val_files")):
        file = config.data[key]
        rows = pd.read_parquet(file, columns=["data_source", "extra_info", "reward_model"])
        problems = pd.DataFrame(
            {
                "question": [info["question"] for info in rows["extra_info"]],
                "gold": [model["ground_truth"] for model in rows["reward_model"]],
            }
        )
        with warnings.catch_warnings():
            # MLflow warns about two names of one class that can read a local file.
            warnings.simplefilter("ignore", UserWarning)
            data = mlflow.data.from_pandas(problems, source=file, name=str(rows["data_source"].iloc[0]))
        yield DatasetInput(Dataset.from_dictionary(data.to_dict()), [InputTag("mlflow.data.context", context)])


def provenance() -> dict[str, str]:
    """Return the tags of commit, versions and hardware."""
    gpus = devices()
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    packages = ["verl", "vllm", "torch", "ray", "transformers", "math-verify", "mlflow"]
    packages += ["liger-kernel"] if find_spec("liger_kernel") else []
    return {
        "mlflow.source.git.commit": commit or "none",
        "git.changed": "unknown" if commit is None or changes is None else str(bool(changes)).lower(),
        "python": platform.python_version(),
        **{f"version.{name}": version(name) for name in packages},
        "hardware.cpu": f"{psutil.cpu_count()} x {_cpu_model()}",
        **({"hardware.gpu": f"{len(gpus)} x {gpus[0].name}"} if gpus else {}),
        "hardware.memory_gb": f"{psutil.virtual_memory().total / 1e9:.0f}",
    }


def _git(*arguments: str) -> str | None:
    """Return the output of a git command in the repository; None outside a repository or without git."""
    if shutil.which("git") is None:
        return None
    said = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() if said.returncode == 0 else None


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
