"""What only a process of the run can tell: run as one, with the environment that Ray's workers will have.

`python -m guidelines_core.preflight.probe FOLDER` reads `FOLDER/config.yaml`, imports the reward function, asks
MLflow's store, the models' hub, the tokenizers and verl's own `validate_config`, and writes `FOLDER/findings.json`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core import layout
from guidelines_core.paths import ROOT, anchored
from guidelines_core.preflight.files import model_keys
from guidelines_core.preflight.findings import Finding, error, warning
from guidelines_core.prompts import planner_messages, solver_messages
from guidelines_core.shapes import config_file
from guidelines_core.tracking import tracking_uri

SECONDS = 18.0
"""How long the probe may take; preflight as a whole ends within 20 s."""


class Probe:
    """The probe's process, started at once so that preflight's other checks run meanwhile."""

    def __init__(self, config: DictConfig, *, dry_run: bool) -> None:
        self._began = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="preflight-")
        OmegaConf.save(config, Path(self._folder.name) / "config.yaml")
        environment = {
            **os.environ,
            **dict(config.guidelines.environment),
            "MLFLOW_TRACKING_URI": tracking_uri(),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PREFLIGHT_DRY_RUN": str(int(dry_run)),
        }
        self._log = (Path(self._folder.name) / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "guidelines_core.preflight.probe", self._folder.name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def findings(self) -> list[Finding]:
        """Wait for the probe and return what it found."""
        try:
            self._process.wait(max(0.1, SECONDS - (time.monotonic() - self._began)))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        file = Path(self._folder.name) / "findings.json"
        read = [Finding(**entry) for entry in map(json.loads, file.read_text().splitlines())] if file.exists() else []
        if self._process.returncode != 0:
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
            read.append(
                warning(
                    "preflight",
                    f"exit code {self._process.returncode}",
                    f"a check did not end: {last}",
                    "the run may fail for what was not checked",
                )
            )
        self._log.close()
        self._folder.cleanup()
        return read


def findings(config: DictConfig, *, dry_run: bool) -> Iterator[Finding]:
    """Yield what this process finds, the quickest checks first."""
    yield from reward_findings(config)
    yield from _hub_findings(config)
    yield from store_findings(os.environ["MLFLOW_TRACKING_URI"], config.trainer.project_name, dry_run=dry_run)
    yield from prompt_findings(config)
    yield from _verl_findings(config)


def reward_findings(config: DictConfig) -> Iterator[Finding]:
    """Import the reward function as verl does: one that cannot be imported fails every rollout of the run."""
    from importlib import import_module
    from importlib.util import module_from_spec, spec_from_file_location

    function = config.reward.custom_reward_function
    key, path = "reward.custom_reward_function.path", str(function.path)
    try:
        if path.startswith("pkg://"):
            module = import_module(path.removeprefix("pkg://").replace("/", "."))
        else:
            spec = spec_from_file_location("reward_function", path.removeprefix("file://"))
            if spec is None or spec.loader is None:
                raise ImportError("it is no Python file")
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
    except Exception as failure:  # whatever the module's own code raises
        yield error(key, path, f"it cannot be imported in a worker: {type(failure).__name__}: {failure}",
                    "name a module as pkg://MODULE and install what it needs")  # fmt: skip
        return
    if not callable(getattr(module, function.name, None)):
        yield error("reward.custom_reward_function.name", function.name, f"{path} has no such function", "name one")


def store_findings(uri: str, experiment: str, *, dry_run: bool) -> Iterator[Finding]:
    """Yield a finding if MLflow's store cannot be reached or written to; a dry run writes nothing to a server."""
    remedy = "set MLFLOW_TRACKING_URI to a store that can be written to, or unset it for mlflow.db in the repository"
    database = uri.removeprefix("sqlite:///")
    if database != uri:
        path = Path(database)
        if not path.is_absolute():
            yield error("MLFLOW_TRACKING_URI", uri, "a worker's working directory may be another one",
                        f"give sqlite:///{path.absolute()}")  # fmt: skip
            return
        if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            yield error("MLFLOW_TRACKING_URI", uri, "this file or its folder cannot be written to", remedy)
            return
        if not path.exists():
            return
        try:
            with sqlite3.connect(path, timeout=3) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.DatabaseError as failure:
            yield error("MLFLOW_TRACKING_URI", uri, f"it cannot be written to: {failure}", remedy)
            return
    try:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if not dry_run and database == uri:
            identity = found.experiment_id if found else client.create_experiment(experiment)
            client.set_experiment_tag(identity, "guidelines.preflight", str(int(time.time())))
    except Exception as failure:  # MLflow's stores raise what their network or database raises
        reason = str(failure).splitlines()[0][:300]
        yield error("MLFLOW_TRACKING_URI", uri, f"MLflow cannot use it: {type(failure).__name__}: {reason}", remedy)


def _hub_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every model or data set that is neither here nor to be had from the hub."""
    wanted = [(key, model, "model") for key, model in model_keys(config).items() if config_file(model) is None]
    wanted = [entry for entry in wanted if not entry[1].startswith("/")]
    source = config.guidelines.data.source
    prepared = (Path(config.data.train_files).parent / "manifest.json").exists()
    if "/" in source and not anchored(source).exists() and not prepared:
        wanted.append(("guidelines.data.source", source, "dataset"))
    if not wanted:
        return
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    for key, name, kind in wanted:
        try:
            if HF_HUB_OFFLINE:
                raise ConnectionError("HF_HUB_OFFLINE=1 in the run's environment")
            HfApi().repo_info(name, repo_type=kind, timeout=5)
        except Exception as failure:  # the hub's client raises what its network stack raises
            reason = str(failure).splitlines()[0][:200]
            yield error(key, name, f"it is not on this machine, and the hub does not give it: {reason}",
                        "check the name and the network, fetch it first, or name a local folder or file")  # fmt: skip


def _verl_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield what verl's own check says; it raises at its first complaint."""
    from verl.utils.config import validate_config

    critic = config.critic.enable if config.critic.enable is not None else config.algorithm.adv_estimator == "gae"
    try:
        validate_config(config, layout.uses_reference(config), critic)
    except (ValueError, AssertionError, TypeError, NotImplementedError) as failure:
        yield error("verl", "validate_config", f"verl refuses it: {failure}", "change the key that it names")


def prompt_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding if the prompts' own tokens leave no room: for a question, or in the solver's context."""
    models = model_keys(config)
    if any(config_file(model) is None for model in models.values()):
        return
    style, data = config.guidelines.prompts.style, config.data
    planner, solver = models.values()
    own = _tokens(planner, planner_messages("", style))
    if own >= data.max_prompt_length:
        yield error("data.max_prompt_length", data.max_prompt_length,
                    f"the planner's prompt takes {own} tokens without a question: every problem would be dropped",
                    f"give more than {own}")  # fmt: skip
        return
    engine = config.reward.reward_model.rollout
    needed = (
        data.max_prompt_length
        - own
        + _tokens(solver, solver_messages("", "", style))
        + data.max_response_length
        + config.guidelines.solver.max_tokens
    )
    if engine.max_model_len < needed:
        yield error("reward.reward_model.rollout.max_model_len", engine.max_model_len,
                    f"the solver's prompt with the longest question and guideline, and its solution, take {needed}",
                    f"give {needed} or more")  # fmt: skip


def _tokens(model: str, messages: Any) -> int:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def main(folder: Path) -> None:
    """Write each finding as soon as it is known, so that a check that hangs hides no other."""
    config = DictConfig(OmegaConf.load(folder / "config.yaml"))
    with (folder / "findings.json").open("w") as file:
        for finding in findings(config, dry_run=os.environ["PREFLIGHT_DRY_RUN"] == "1"):
            file.write(json.dumps(asdict(finding), default=str) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
