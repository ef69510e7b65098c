"""A run's configuration: an experiment's name and overrides, composed over verl's own, typed and checked.

An experiment is `experiments/conf/NAME.yaml`. Everything that verl knows is set under verl's own key; what is
ours lives in the one typed section `guidelines`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from guidelines_core.grading import GRADERS
from guidelines_core.leak import POLICIES as LEAK_POLICIES
from guidelines_core.paths import CONF, DATA, MODELS, ROOT, anchored
from guidelines_core.prompts import STYLES
from guidelines_core.prompts import VERSION as PROMPTS_VERSION


class ConfigError(ValueError):
    """A configuration that cannot run; the message lists every finding with its key, value and remedy."""


@dataclass
class DataConfig:
    """Which problems a run learns from.

    Attributes:
        source: `word-problems`, a JSONL or parquet file, or a data set's hub id.
        size: training problems at most.
        val_size: held-out problems at most.
        seed: chooses and orders the problems.
        exclude: files of benchmarks, whose problems are left out.
    """

    source: str = MISSING
    size: int = 30000
    val_size: int = 500
    seed: int = 0
    exclude: list[str] = field(default_factory=list)


@dataclass
class SolverConfig:
    """How the frozen solver is asked.

    Attributes:
        model: folder or hub id; overridden by the environment's `VERL_GUIDELINES_SOLVER_MODEL`.
        max_tokens: longest solution, in tokens.
        temperature: of sampling in training; 0 is greedy.
        val_temperature: of sampling in validation.
        seed: seeds each request's sampling together with its text.
        max_concurrency: requests in flight; 1 asks one after the other.
        deadline_s: seconds for one solution from when it is its turn, retries included.
        step_deadline_s: seconds for all solutions of a step, from the first request.
        probe_every_s: seconds between two looks at the solver, each a generation of one token.
        probe_s: seconds for that token, after which the solver's server is started again.
        restart_within_s: seconds to bring it back, after which the run saves, ends and says why.
        ignore_eos: go on to `max_tokens` whatever is written, for measurements at fixed lengths.
    """

    model: str = MISSING
    max_tokens: int = MISSING
    temperature: float = 0.0
    val_temperature: float = 0.0
    seed: int = 0
    max_concurrency: int = 512
    deadline_s: float = 900.0
    step_deadline_s: float = 3600.0
    probe_every_s: float = 10.0
    probe_s: float = 60.0
    restart_within_s: float = 600.0
    ignore_eos: bool = False


@dataclass
class GraderConfig:
    """Who judges a solution.

    Attributes:
        name: one of `grading.GRADERS`; overridden by the environment's `VERL_GUIDELINES_USE_MATH_VERIFY`.
        deadline_s: seconds for one pair, after which its process is killed.
        workers: grading processes.
        memory_mb: memory limit of a grading process, in MiB.
        leak: one of `leak.POLICIES`: what a guideline that contains the gold answer earns.
    """

    name: str = "math_verify"
    deadline_s: float = 5.0
    workers: int = 2
    memory_mb: int = 1024
    leak: str = "flag"


@dataclass
class PromptsConfig:
    """How planner and solver are asked.

    Attributes:
        style: one of `prompts.STYLES`.
    """

    style: str = "instruct"


@dataclass
class CheckpointsConfig:
    """Which checkpoints stay on the disk.

    Attributes:
        keep_last: the newest so many; None keeps all.
        keep_best: besides them, so many with the highest validation accuracy; one that no validation fell on has none.
    """

    keep_last: int | None = None
    keep_best: int = 1


@dataclass
class GuidelinesConfig:
    """The section `guidelines`: what verl has no key for.

    Attributes:
        description: one line for `run.py --list`.
        data: the problems.
        solver: the frozen solver.
        grader: the judge.
        prompts: the planner's and the solver's prompts.
        checkpoints: which of them stay.
        rollout_seed: seeds each rollout's sampling together with its step, problem and number, so that a run that
            was resumed samples what it would have sampled; None leaves vLLM its own state, which is quicker on a GPU.
        environment: environment variables of the run's processes.
        stop_within_s: seconds that SIGTERM leaves for the step under way and its checkpoint.
        fork_processes: start them as forks of one that has imported everything, see `forkserver.py`.
    """

    description: str = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    grader: GraderConfig = field(default_factory=GraderConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    rollout_seed: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    stop_within_s: float = 270.0
    fork_processes: bool = False


SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
"""In the name of an environment variable, says that its value must be written nowhere."""

# Sums and maxima of other keys, for values that follow from them: ${sum:${a},${b}}.
OmegaConf.register_new_resolver("sum", lambda *values: sum(values), replace=True)
OmegaConf.register_new_resolver("max", lambda *values: max(values), replace=True)

ConfigStore.instance().store(name="guidelines_schema", node={"guidelines": GuidelinesConfig})


def _verl_folder() -> Path:
    """Return where verl is installed. Importing it, as `pkg://verl` would, costs 5 s of torch and ray."""
    spec = importlib.util.find_spec("verl")
    if spec is None or spec.origin is None:
        raise ImportError("verl is not installed: run `make install`")
    return Path(spec.origin).parent


SEARCH_PATH = f"hydra.searchpath=['file://{_verl_folder() / 'trainer' / 'config'}']"


def experiments() -> dict[str, str]:
    """Return every named experiment with its line of description."""
    names = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem != "base")
    return {name: str(OmegaConf.load(CONF / f"{name}.yaml").guidelines.description) for name in names}


def compose(name: str, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> DictConfig:
    """Return the whole configuration of experiment `name`, every reference to another key resolved.

    Raises:
        ConfigError: the name, a key or a value is wrong.
    """
    return finished(unresolved(name, overrides, environ))


def finished(config: DictConfig) -> DictConfig:
    """Resolve every reference of an `unresolved` configuration, close it to new keys, and return it."""
    OmegaConf.resolve(config)
    OmegaConf.set_struct(config, True)
    return config


def own_layout(name: str, overrides: Sequence[str] = ()) -> str:
    """Return the layout that experiment `name` is on."""
    with initialize_config_dir(str(CONF), version_base=None):
        composed = hydra_compose(name, overrides=[SEARCH_PATH, *overrides], return_hydra_config=True)
        return str(composed.hydra.runtime.choices.layout)


def unresolved(name: str, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> DictConfig:
    """Return what `compose` does before references are resolved: a value set now reaches all that follow from it.

    Raises:
        ConfigError: the name, a key or a value is wrong.
    """
    if name not in experiments():
        raise ConfigError(f"no experiment is called {name!r}: expected one of {', '.join(experiments())}")
    with initialize_config_dir(str(CONF), version_base=None):
        plain = _plain(name)
        findings = list(_override_findings(plain, overrides))
        if findings:
            raise ConfigError("\n".join(findings))
        try:
            config: DictConfig = hydra_compose(name, overrides=[SEARCH_PATH, *overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{name} with {' '.join(overrides)}: {error}") from error
    OmegaConf.set_struct(config, False)
    _apply_environment(config, environ)
    _anchor(config, name)
    findings = [*_missing(config), *_bad_values(config)]
    if findings:
        raise ConfigError("\n".join(findings))
    return config


@lru_cache
def _plain(name: str) -> DictConfig:
    """Return experiment `name` without overrides, references unresolved."""
    config: DictConfig = hydra_compose(name, overrides=[SEARCH_PATH])
    return config


def _override_findings(plain: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for every override that does not parse, names no key or has another type than the key."""
    keys = list(_leaves(plain))
    for text in overrides:
        try:
            override: Override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            yield f"{text!r} is no override: expected key=value ({str(error).splitlines()[0]})"
            continue
        key = str(override.key_or_group)
        if override.is_add() or override.is_delete() or (CONF / key).is_dir():
            continue
        if _select(plain, key) is _ABSENT:
            near = difflib.get_close_matches(key, keys, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else "run with --dry-run to see every key"
            yield f"{key}={override.value()}: there is no such key; {hint} (+{key}=… adds a key that verl reads)"
            continue
        finding = _type_finding(key, override.value(), _select(plain, key))
        if finding:
            yield finding


_ABSENT = object()


def _select(config: DictConfig, key: str) -> Any:
    """Return the value at `key`, `_ABSENT` if there is none, None for one that must be given."""
    parent_key, _, last = key.rpartition(".")
    try:
        parent = OmegaConf.select(config, parent_key) if parent_key else config
    except OmegaConfBaseException:
        return _ABSENT
    if not isinstance(parent, DictConfig) or last not in parent.keys():  # noqa: SIM118, a missing value is not `in`
        return _ABSENT
    return None if OmegaConf.is_missing(parent, last) else parent[last]


def _type_finding(key: str, value: Any, current: Any) -> str | None:
    """Return a sentence if `value` is of another kind than the key's `current` value, which is never None."""
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str, int, float), "text"),
        DictConfig: ((dict,), "a mapping {key: value}"),
        ListConfig: ((list,), "a list [a,b]"),
    }
    if current is None or value is None or (isinstance(value, str) and "${" in value):
        return None
    accepted, expected = kinds[type(current)]
    if isinstance(value, accepted) and (isinstance(value, bool) == isinstance(current, bool)):
        return None
    return f"{key}={value}: expected {expected}, like its present value {current}"


def _leaves(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value."""
    for key in config:
        node = None if OmegaConf.is_missing(config, key) else config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _leaves(node, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}"


def _apply_environment(config: DictConfig, environ: Mapping[str, str]) -> None:
    """Let the environment's two variables override the solver's model and the grader."""
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
    """Set what follows from the rest: run name, data files, absolute paths of models and checkpoints."""
    config.trainer.experiment_name = name
    config.trainer.default_local_dir = str(anchored(config.trainer.default_local_dir))
    for section, key in ((config.guidelines.solver, "model"), (config.actor_rollout_ref.model, "path")):
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
    """Return where the data set of a `DataConfig` with prompts of `style` lies: a folder for each way to make one."""
    source = str(anchored(data.source)) if anchored(data.source).exists() else data.source
    text = repr((source, data.size, data.val_size, data.seed, PROMPTS_VERSION, style, *data.exclude))
    label = source.rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return DATA / f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _missing(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every value that must be given and is not."""
    for key in sorted(OmegaConf.missing_keys(config)):
        yield f"{key} has no value: give {key}=VALUE or set it in the experiment's YAML"


def _bad_values(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every value of the section `guidelines` that is out of its range."""
    grader = config.guidelines.grader.name
    if grader not in GRADERS:
        yield f"guidelines.grader.name={grader}: expected one of {', '.join(GRADERS)}"
    if (leak := config.guidelines.grader.leak) not in LEAK_POLICIES:
        yield f"guidelines.grader.leak={leak}: expected one of {', '.join(LEAK_POLICIES)}"
    style = config.guidelines.prompts.style
    if style not in STYLES:
        yield f"guidelines.prompts.style={style}: expected one of {', '.join(STYLES)}"
    positive = (
        "data.size",
        "data.val_size",
        "solver.max_tokens",
        "solver.max_concurrency",
        "solver.deadline_s",
        "solver.step_deadline_s",
        "solver.probe_every_s",
        "solver.probe_s",
        "solver.restart_within_s",
        "grader.deadline_s",
        "grader.workers",
        "grader.memory_mb",
    )
    for key in positive:
        value = OmegaConf.select(config.guidelines, key)
        if value is not None and value <= 0:
            yield f"guidelines.{key}={value}: expected more than 0"
    for name in config.guidelines.environment:
        if SECRET.search(str(name)):
            yield (
                f"guidelines.environment.{name}: a configuration is recorded, and a secret must not be; export it in "
                "the shell, the run's processes inherit it"
            )
    kept = config.guidelines.checkpoints
    if kept.keep_last is not None and kept.keep_last < 1:
        yield f"guidelines.checkpoints.keep_last={kept.keep_last}: expected 1 or more, or null to keep all"
    if kept.keep_best < 0:
        yield f"guidelines.checkpoints.keep_best={kept.keep_best}: expected 0 or more"
    if config.trainer.max_actor_ckpt_to_keep is not None:
        yield (
            f"trainer.max_actor_ckpt_to_keep={config.trainer.max_actor_ckpt_to_keep}: verl would delete half of a "
            "checkpoint, and the best one, too; give guidelines.checkpoints.keep_last instead"
        )
    for key in ("solver.temperature", "solver.val_temperature"):
        value = OmegaConf.select(config.guidelines, key)
        if value < 0:
            yield f"guidelines.{key}={value}: expected 0 (greedy) or more"
