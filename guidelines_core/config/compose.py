"""A run's configuration: an experiment's name and overrides, composed over verl's own configuration and checked.

An experiment is `experiments/conf/NAME.yaml`. What verl has a key for is set under verl's key; the rest is in the typed
section `guidelines`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from guidelines_core.config import layout
from guidelines_core.config.overrides import override_findings
from guidelines_core.config.ranges import bad_values
from guidelines_core.config.schema import GuidelinesConfig
from guidelines_core.config.verl_values import small_sizes, unlike_defaults, verl_folder
from guidelines_core.data.manifest import SCHEMA_VERSION
from guidelines_core.data.sources import digest
from guidelines_core.digests import text_sha256
from guidelines_core.paths import CONF, DATA, MODELS, ROOT, anchored
from guidelines_core.prompts import VERSION as PROMPTS_VERSION


class ConfigError(ValueError):
    """A configuration that cannot run; the message lists every finding with its key, value and remedy."""


# For values that are derived from other keys: ${sum:${a},${b}}, ${max:${a},${b}}; ${repository:FILE} is a file's
# absolute path.
OmegaConf.register_new_resolver("sum", lambda *values: sum(values), replace=True)
OmegaConf.register_new_resolver("max", lambda *values: max(values), replace=True)
# The sequences that one engine generates at once, and the batch sizes of its CUDA graphs.
OmegaConf.register_new_resolver("rollout_sequences", lambda *, _root_: layout.rollout_sequences(_root_), replace=True)
OmegaConf.register_new_resolver("guideline_tokens", lambda *, _root_: layout.guideline_tokens(_root_), replace=True)
OmegaConf.register_new_resolver("solution_tokens", lambda *, _root_: layout.solution_tokens(_root_), replace=True)
OmegaConf.register_new_resolver("solver_sequences", lambda *, _root_: layout.solver_sequences(_root_), replace=True)
OmegaConf.register_new_resolver("graph_sizes", lambda most: ListConfig(layout.graph_sizes(most)), replace=True)
# Arguments that Ray accepts only for a cluster that it starts itself.
OmegaConf.register_new_resolver("local", lambda address, value: value if address == "local" else None, replace=True)
OmegaConf.register_new_resolver("repository", lambda file: str(anchored(file)), replace=True)

ConfigStore.instance().store(name="guidelines_schema", node={"guidelines": GuidelinesConfig})


def search_path(folder: Path) -> str:
    """Return the override that adds `folder` to Hydra's search path; its path may have any characters."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.searchpath=['file://{quoted}']"


SEARCH_PATH = search_path(verl_folder() / "trainer" / "config")


BROKEN = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    OSError,
    UnicodeDecodeError,
    TypeError,
    AttributeError,
)
"""What Hydra and OmegaConf raise for an experiment's file that is not YAML, not a mapping, or not readable."""


def experiments() -> dict[str, str]:
    """Return every named experiment with its description, or with the error in its file."""
    return {name: _description(CONF / f"{name}.yaml") for name in _names()}


def _names() -> list[str]:
    return sorted(file.stem for file in CONF.glob("*.yaml") if file.stem != "base")


def _description(file: Path) -> str:
    """Return the description in an experiment's own file, empty if it has none."""
    try:
        found = OmegaConf.select(OmegaConf.load(file), "guidelines.description", default="")
    except BROKEN as error:
        return f"(cannot be read: {_first_line(error)})"
    return str(found)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def compose(name: str, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> DictConfig:
    """Return the whole configuration of experiment `name`, read-only, with every derived value set.

    `changed` returns a copy with other values; `launch.attempt` adds the values of one attempt.

    Raises:
        ConfigError: the name, a key or a value is wrong.
    """
    return finished(unresolved(name, overrides, environ))


def finished(config: DictConfig) -> DictConfig:
    """Resolve every reference of an `unresolved` configuration, make it read-only, and return it."""
    OmegaConf.resolve(config)
    OmegaConf.set_struct(config, True)
    OmegaConf.set_readonly(config, True)
    return config


def changed(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a read-only copy of `config` with these values, by dotted key; missing keys are added."""
    # Four times faster than `config.copy()`, which the diagnosis of a run would call a hundred times.
    other: DictConfig = pickle.loads(pickle.dumps(config))
    OmegaConf.set_readonly(other, False)
    for key, value in values.items():
        OmegaConf.update(other, key, value, force_add=True)
    OmegaConf.set_readonly(other, True)
    return other


def own_layout(name: str, overrides: Sequence[str] = ()) -> str:
    """Return the name of the layout of experiment `name`."""
    with initialize_config_dir(str(CONF), version_base=None):
        composed = hydra_compose(name, overrides=[SEARCH_PATH, *overrides], return_hydra_config=True)
        return str(composed.hydra.runtime.choices.layout)


def unresolved(name: str, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> DictConfig:
    """Return the configuration of `compose` before references are resolved, so that values derived from others follow.

    Raises:
        ConfigError: the name, a key or a value is wrong.
    """
    plain, config = _composed(name, overrides)
    called = config.trainer.experiment_name
    _apply_environment(config, environ)
    _anchor(config, name)
    findings = [*_missing(config), *small_sizes(config), *bad_values(config)]
    if called not in (plain.trainer.experiment_name, name):
        findings.append(
            f"trainer.experiment_name={called}: a run is called like its experiment, {name}; leave it out, or write "
            f"experiments/conf/{called}.yaml with `defaults: [{name}, _self_]`"
        )
    if findings:
        raise ConfigError("\n".join(findings))
    return config


def checkpoint_directory(name: str, overrides: Sequence[str] = ()) -> Path:
    """Return the checkpoint directory of a start of experiment `name`; the other values may be incomplete.

    Raises:
        ConfigError: the name or a key is wrong.
    """
    _, config = _composed(name, overrides)
    config.trainer.experiment_name = name
    return anchored(config.trainer.default_local_dir)


def _composed(name: str, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """Return what Hydra composes of experiment `name` without and with `overrides`, references unresolved.

    Raises:
        ConfigError: the name, a key or a value's type is wrong.
    """
    if name not in _names():
        raise ConfigError(f"no experiment is called {name!r}: expected one of {', '.join(_names())}")
    with initialize_config_dir(str(CONF), version_base=None):
        plain = _plain(name)
        findings = list(override_findings(plain, overrides))
        if findings:
            raise ConfigError("\n".join(findings))
        try:
            config: DictConfig = hydra_compose(name, overrides=[SEARCH_PATH, *overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{name} with {' '.join(overrides)}: {error}") from error
    OmegaConf.set_struct(config, False)
    # Before anything is computed with the values.
    if findings := list(unlike_defaults(config)):
        raise ConfigError("\n".join(findings))
    return plain, config


@lru_cache
def _plain(name: str) -> DictConfig:
    """Return experiment `name` without overrides, references unresolved.

    Raises:
        ConfigError: its file, or one that it builds on, is broken.
    """
    file = CONF / f"{name}.yaml"
    try:
        config: DictConfig = hydra_compose(name, overrides=[SEARCH_PATH])
    except BROKEN as error:
        raise ConfigError(f"{file}: it cannot be composed: {' '.join(str(error).split())}") from error
    if "guidelines" not in config or "trainer" not in config:
        raise ConfigError(
            f"{file}: it has no base: expected `# @package _global_` and `defaults: [EXPERIMENT or base, _self_]`"
        )
    return config


def _apply_environment(config: DictConfig, environ: Mapping[str, str]) -> None:
    """Override the solver's model and the grader by two environment variables."""
    if model := environ.get("VERL_GUIDELINES_SOLVER_MODEL"):
        config.guidelines.solver.model = model
    if flag := environ.get("VERL_GUIDELINES_USE_MATH_VERIFY"):
        if flag not in ("0", "1"):
            raise ConfigError(f"VERL_GUIDELINES_USE_MATH_VERIFY={flag} in the environment: expected 0 or 1")
        config.guidelines.grader.name = "math_verify" if flag == "1" else "exact_match"


def environment_notes(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a line for each environment variable that overrides the configuration."""
    names = ("VERL_GUIDELINES_SOLVER_MODEL", "VERL_GUIDELINES_USE_MATH_VERIFY")
    return [
        f"{name}={environ[name]} in the environment overrides the configuration" for name in names if environ.get(name)
    ]


def _anchor(config: DictConfig, name: str) -> None:
    """Set the values that code derives: run name, data files, absolute paths of models and checkpoints."""
    config.trainer.experiment_name = name
    config.trainer.default_local_dir = str(anchored(config.trainer.default_local_dir))
    here = [(config.actor_rollout_ref.model, "path")]
    if not layout.solver_urls(config):
        here.append((config.guidelines.solver, "model"))
    for section, key in here:
        if not OmegaConf.is_missing(section, key):
            section[key] = model_location(section[key])
    if OmegaConf.is_missing(config.guidelines.data, "source"):
        return
    folder = data_folder(OmegaConf.to_object(config.guidelines.data), config.guidelines.prompts.style)
    for key, file in (("train_files", "train.parquet"), ("val_files", "val.parquet")):
        if config.data[key] is None:
            config.data[key] = str(folder / file)


def model_location(model: str) -> str:
    """Return a folder's absolute path, or a hub id as it is."""
    local = model.startswith(("/", ".", f"{MODELS.name}/")) or (ROOT / model).exists()
    return str(anchored(model)) if local else model


def data_folder(data: Any, style: str) -> Path:
    """Return the folder of the data set of a `DataConfig` with prompts of `style`.

    The name depends on the source, its content, every setting and the format's version, so that no start replaces the
    problems of a run that will be resumed.
    """
    source, *excluded = (_source(file) for file in (data.source, *data.exclude))
    parts = (
        source,
        data.size,
        data.val_size,
        data.seed,
        PROMPTS_VERSION,
        SCHEMA_VERSION,
        style,
        *excluded,
        *data.columns.__dict__.values(),
    )
    text = repr(parts if data.pass_rate is None else (*parts, "pass_rate", *data.pass_rate))
    label = data.source.rstrip("/").rsplit("/", 1)[-1].split(".")[0].replace(":", "-")
    return DATA / f"{label}-{text_sha256(text)[:10]}"


def _source(source: str) -> tuple[str, str | None]:
    """Return what identifies a source in any folder: its name and its content's digest."""
    path = anchored(source)
    return (path.name, digest(str(path))) if path.exists() else (source, digest(source))


def _missing(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every required value that is missing."""
    # OmegaConf resolves every reference to find them, a third of what it takes to compose.
    if MISSING not in repr(OmegaConf.to_container(config)):
        return
    for key in sorted(OmegaConf.missing_keys(config)):
        yield f"{key} has no value: give {key}=VALUE or set it in the experiment's YAML"
