"""Digests of a run's inputs besides its configuration: problems, models and reward code.

Each attempt records them in `logs/attempt-N.inputs.json`, so that a later one can check that it uses the same content,
also if the files were moved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.digests import file_sha256
from guidelines_core.hardware.shapes import config_file
from guidelines_core.runs.checkpoints import write_atomically

PROBLEMS = ("data.train_files", "data.val_files")
FILES = ("reward.custom_reward_function.path",)
MODELS = ("actor_rollout_ref.model.path", "guidelines.solver.model")
"""Keys of the configuration that name problems, another file, or a model."""

SAMPLES, BYTES = 32, 1 << 16
"""How many evenly spaced samples of a model's file are read, and the bytes of each."""


def digests(config: DictConfig) -> dict[str, str]:
    """Return the digest of each file and model that exists on this machine, by its key."""
    found = {}
    for keys, digest in ((PROBLEMS, problems_digest), (FILES, file_sha256)):
        for key in keys:
            path = Path(str(OmegaConf.select(config, key)))
            if path.is_file():
                found[key] = digest(path)
    # What a server elsewhere loads is not on this machine, whatever has its name here.
    for key in MODELS[:1] if layout.solver_urls(config) else MODELS:
        described = config_file(str(OmegaConf.select(config, key)))
        if described is not None:
            found[key] = model_digest(described.parent)
    return found


def problems_digest(path: Path) -> str:
    """Return a digest of a Parquet file's problems in order: prompts, golds and ids.

    Fields that later versions of the project add to a row do not change it.
    """
    table = pd.read_parquet(path, columns=["prompt", "reward_model", "extra_info"])
    digest = hashlib.sha256()
    for prompt, graded, about in zip(table["prompt"], table["reward_model"], table["extra_info"], strict=True):
        messages = [(message["role"], message["content"]) for message in prompt]
        digest.update(repr((messages, graded["ground_truth"], about["problem_id"])).encode())
    return digest.hexdigest()


def model_digest(folder: Path) -> str:
    """Return a digest of a model's tokenizer and of samples of its weights, which any training changes."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("tokenizer.json")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for sample in range(SAMPLES):
                file.seek(max(0, size - BYTES) * sample // (SAMPLES - 1))
                digest.update(file.read(BYTES))
    return digest.hexdigest()


def record(config: DictConfig, directory: Path, attempt: int) -> dict[str, str]:
    """Write the digests of an attempt into its run's directory and return them."""
    found = digests(config)
    (directory / "logs").mkdir(exist_ok=True)
    write_atomically(directory / "logs" / f"attempt-{attempt}.inputs.json", json.dumps(found, indent=1))
    return found


def recorded(directory: Path) -> dict[str, str]:
    """Return the digests of the run's newest attempt that recorded some; none if no attempt did."""
    files = (directory / "logs").glob("attempt-*.inputs.json")
    newest = max(files, key=lambda file: int(re.sub(r"\D", "", file.name)), default=None)
    return dict(json.loads(newest.read_text())) if newest else {}


def changed(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the keys whose content changed, of those with a digest in both."""
    return [key for key in was if key in now and was[key] != now[key]]
