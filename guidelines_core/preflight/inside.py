"""Checks that need the environment of the run's processes; `probe.py` runs this module with it.

`python -m guidelines_core.preflight.inside FOLDER` reads `FOLDER/config.yaml`, checks the reward manager, MLflow's
store, the models' hub, the prompts and verl's own `validate_config`, and writes `FOLDER/findings.json`.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf
from sqlalchemy.engine import make_url

from guidelines_core.config import layout
from guidelines_core.hardware.shapes import config_file
from guidelines_core.paths import MLFLOW_DATABASE, anchored
from guidelines_core.preflight.files import model_keys, on_this_machine
from guidelines_core.preflight.findings import Finding, error
from guidelines_core.preflight.model_files import model_fault
from guidelines_core.prompts import planner_messages, solver_messages
from guidelines_core.runs.stores import masked
from guidelines_core.solver.offer import Wanted, faults
from guidelines_core.verl_adapter.allowed_values import wrong_values
from guidelines_core.verl_adapter.validation import validate


def findings(config: DictConfig, *, dry_run: bool) -> Iterator[Finding]:
    """Yield the findings of all checks, the fastest first; an exception in a check is a finding too."""
    # Importing verl takes 5 s. A start on a CPU skips it: the driver imports verl and makes the same checks at once.
    imports_verl = dry_run or config.trainer.device == "cuda"
    uri = os.environ["MLFLOW_TRACKING_URI"]
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "the reward": lambda: reward_findings(config, imports_verl=imports_verl),
        "the hub": lambda: _hub_findings(config),
        "MLflow's store": lambda: store_findings(uri, config.trainer.project_name, dry_run=dry_run),
        "the prompts": lambda: prompt_findings(config),
        "the values": lambda: value_findings(config),
        "the solver's servers": lambda: server_findings(config),
        "verl's own check": lambda: _verl_findings(config) if imports_verl else iter(()),
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as failure:  # any failure of a check is one that the run would meet
            yield error("preflight", name, f"this check crashed: {type(failure).__name__}: {failure}",
                        "change what it names; if nothing is wrong with that, report it")  # fmt: skip


def value_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every value outside its key's closed set, with the nearest allowed value."""
    for key, value, allowed in wrong_values(config):
        near = get_close_matches(value, allowed, n=1, cutoff=0)[0]
        yield error(key, value, f"expected one of {', '.join(allowed)}", f"did you mean {near}?")


def reward_findings(config: DictConfig, *, imports_verl: bool) -> Iterator[Finding]:
    """Yield a finding if verl could not import the reward manager.

    The project's own reward manager imports verl; without `imports_verl` only its existence is checked.
    """
    section, function = config.reward.reward_manager, config.reward.custom_reward_function.path
    if function is not None or section.source != "importlib":
        key, value = (
            ("custom_reward_function.path", function) if function else ("reward_manager.source", section.source)
        )
        yield error(f"reward.{key}", value, "verl's own reward managers do not call the solver",
                    "change guidelines_core/reward/score.py, or name a GuidelineRewardManager in "
                    "reward.reward_manager.module.path and .name")  # fmt: skip
        return
    key, path = "reward.reward_manager.module.path", str(section.module.path)
    try:
        module = _imported(path, only_find=path.startswith("pkg://guidelines_core.") and not imports_verl)
    except Exception as failure:  # whatever the module's own code raises
        yield error(key, path, f"it cannot be imported in a worker: {type(failure).__name__}: {failure}",
                    "name a module as pkg://MODULE and install what it needs")  # fmt: skip
        return
    if module is not None and not callable(getattr(module, section.name, None)):
        yield error("reward.reward_manager.name", section.name, f"{path} has no such class", "name one")


def _imported(path: str, *, only_find: bool) -> ModuleType | None:
    """Import the module that verl's `load_module` finds at `path`; None if only its existence was checked."""
    if path.startswith("pkg://"):
        name = path.removeprefix("pkg://").replace("/", ".")
        if not only_find:
            return import_module(name)
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return None
    spec = spec_from_file_location("reward_manager", path.removeprefix("file://"))
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def store_findings(uri: str, experiment: str, *, dry_run: bool) -> Iterator[Finding]:
    """Yield a finding if MLflow's store cannot be reached or written to; a dry run writes nothing to a server."""
    remedy = "set MLFLOW_TRACKING_URI to a store that can be written to, or unset it for mlflow.db in the repository"
    database = uri.removeprefix("sqlite:///")
    if database != uri:
        read = make_url(uri).database
        if database == str(MLFLOW_DATABASE) and read != database:
            yield error("MLFLOW_TRACKING_URI", uri, f"of the repository's path, this address is read as {read}",
                        "move the repository to a path without % and ?, or set MLFLOW_TRACKING_URI")  # fmt: skip
            return
        path = Path(database)
        if not path.is_absolute():
            yield error("MLFLOW_TRACKING_URI", masked(uri), "the path is relative, and workers run elsewhere",
                        f"give sqlite:///{path.absolute()}")  # fmt: skip
            return
        if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            yield error("MLFLOW_TRACKING_URI", masked(uri), "this file or its folder cannot be written to", remedy)
            return
        if not path.exists():
            return
        try:
            with sqlite3.connect(path, timeout=3) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.DatabaseError as failure:
            yield error("MLFLOW_TRACKING_URI", masked(uri), f"it cannot be written to: {failure}", remedy)
            return
    try:
        from mlflow import MlflowClient

        from guidelines_core.runs.tracking import experiment_fault

        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None and (fault := experiment_fault(found)):
            yield error("trainer.project_name", experiment, *fault)
            return
        if not dry_run and database == uri:
            identity = found.experiment_id if found else client.create_experiment(experiment)
            client.set_experiment_tag(identity, "guidelines.preflight", str(int(time.time())))
    except Exception as failure:  # MLflow's stores raise what their network or database raises
        reason = str(failure).splitlines()[0][:300]
        yield error(
            "MLFLOW_TRACKING_URI", masked(uri), f"MLflow cannot use it: {type(failure).__name__}: {reason}", remedy
        )


def _hub_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every model or data set that is neither local nor available from the hub."""
    wanted = [
        (key, model, "model")
        for key, model in model_keys(config).items()
        if not model.startswith("/") and ((file := config_file(model)) is None or model_fault(file.parent))
    ]
    source = config.guidelines.data.source
    prepared = (Path(config.data.train_files).parent / "manifest.json").exists()
    if "/" in source and not on_this_machine(source) and not anchored(source).exists() and not prepared:
        wanted.append(("guidelines.data.source", source, "dataset"))
    if not wanted:
        return
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    for key, name, kind in wanted:
        try:
            if HF_HUB_OFFLINE:
                raise ConnectionError("HF_HUB_OFFLINE=1 in the run's environment")
            HfApi().repo_info(name.partition(":")[0], repo_type=kind, timeout=5)
        except Exception as failure:  # the hub's client raises what its network stack raises
            reason = str(failure).splitlines()[0][:200]
            yield error(key, name, f"it is not whole on this machine, and the hub does not provide it: {reason}",
                        f"check the name, or fetch it where there is a network: {fetching(config, name, kind)}; or "
                        "name a local folder or file")  # fmt: skip


def fetching(config: DictConfig, name: str, kind: str) -> str:
    """Return the command that fetches a model into the hub's cache, or prepares the run's problems in their folder."""
    if kind == "model":
        return f"hf download {name}"
    data, folder = config.guidelines.data, Path(config.data.train_files).parent
    if config.guidelines.prompts.style != "instruct":
        return "start the run there"
    words = ["--source", name, "--out", str(folder), "--size", str(data.size), "--val-size", str(data.val_size)]
    words += ["--seed", str(data.seed), *(["--exclude", *data.exclude] if data.exclude else [])]
    return f"python -m guidelines_core.data.prepare {shlex.join(words)}"


def server_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every server at `guidelines.solver.url` that cannot be the solver."""
    urls, solver, data = layout.solver_urls(config), config.guidelines.solver, config.data
    if not urls or not layout.solver_elsewhere(config):
        return
    wanted = Wanted(
        urls=urls,
        model=solver.model,
        key_env=solver.key_env,
        samples=max(solver.samples, solver.val_samples),
        temperature=max(solver.temperature, solver.val_temperature),
        seeded=solver.seed is not None,
        context=data.max_prompt_length + layout.guideline_tokens(config) + layout.solution_tokens(config),
    )
    for fault in faults(wanted):
        yield error(f"guidelines.solver.{fault.key}", fault.value, fault.reason, fault.remedy)


def _verl_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield the first error of verl's own check of the configuration."""
    try:
        validate(config)
    except Exception as failure:  # verl's dataclasses raise whatever their field types and Hydra raise
        yield error("verl", "validate_config", f"verl refuses it: {failure}", "change the key that it names")


def prompt_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding if the prompts leave no room for a question, or do not fit in the solver's context."""
    planner, *solvers = (_chat_files(model) for model in model_keys(config).values())
    if planner is None or None in solvers:
        return
    style, data = config.guidelines.prompts.style, config.data
    own = chat_tokens(planner, planner_messages("", style))
    if own >= data.max_prompt_length:
        yield error("data.max_prompt_length", data.max_prompt_length,
                    f"the planner's prompt takes {own} tokens without a question: every problem would be dropped",
                    f"give more than {own}")  # fmt: skip
        return
    engine = config.reward.reward_model.rollout
    if not solvers or solvers[0] is None:
        return
    needed = (
        data.max_prompt_length
        - own
        + chat_tokens(solvers[0], solver_messages("", "", style))
        + layout.guideline_tokens(config)
        + layout.solution_tokens(config)
    )
    if engine.max_model_len < needed:
        yield error("reward.reward_model.rollout.max_model_len", engine.max_model_len,
                    f"the solver's prompt with the longest question and guideline, and its solution, take {needed}",
                    f"give {needed} or more")  # fmt: skip


def _chat_files(model: str) -> tuple[Path, str] | None:
    """Return the path of a model's `tokenizer.json` and its chat template; None if one is not on this machine."""
    config = config_file(model)
    if config is None or not (config.parent / "tokenizer.json").is_file():
        return None
    template, settings = config.parent / "chat_template.jinja", config.parent / "tokenizer_config.json"
    if template.is_file():
        return config.parent / "tokenizer.json", template.read_text(encoding="utf-8")
    found = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
    return (config.parent / "tokenizer.json", found) if isinstance(found, str) else None


def chat_tokens(files: tuple[Path, str], messages: Any) -> int:
    """Return the number of tokens of a chat, as transformers counts them; importing that would take 6 s."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from tokenizers import Tokenizer

    tokenizer, template = files
    jinja = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )  # as transformers/utils/chat_template_utils.py
    text = jinja.from_string(template).render(messages=messages, add_generation_prompt=True)
    return len(Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False))


def main(folder: Path) -> None:
    """Write each finding at once, so that a later check that hangs does not lose it."""
    config = DictConfig(OmegaConf.load(folder / "config.yaml"))
    with (folder / "findings.json").open("w") as file:
        for finding in findings(config, dry_run=os.environ["PREFLIGHT_DRY_RUN"] == "1"):
            file.write(json.dumps(asdict(finding), default=str) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
