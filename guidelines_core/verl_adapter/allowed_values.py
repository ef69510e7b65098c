"""Keys whose values form a closed set in verl, vLLM, transformers or torch, and these sets.

Reading a set imports the library that defines it, which takes up to 25 s. `tried` values skip that.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf

A, R, S = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "reward.reward_model.rollout"
WEIGHT_TRANSFER = "guidelines_core.verl_adapter.weight_transfer"
"""The module that the layouts load as `custom_backend_module` and that adds no backend to verl's."""
REF, CORRECTION = "actor_rollout_ref.ref", "algorithm.rollout_correction"


@dataclass(frozen=True)
class ClosedSet:
    """A set of values and the keys that take them.

    Attributes:
        keys: the keys whose value is one of the set, or a list of these.
        tried: values that are known to be in the set.
        read: returns the whole set.
    """

    keys: tuple[str, ...]
    tried: frozenset[str]
    read: Callable[[], Iterable[str]]


def wrong_values(config: DictConfig) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each key with a value outside its set, that value, and the sorted set.

    A wrong value is yielded once for the keys of one set, since one key may take it from another.
    """
    loaded = False
    for closed in SETS:
        said = set()
        for key in closed.keys:
            for value in values(config, key):
                if value in closed.tried or value in said:
                    continue
                if not loaded:
                    loaded = True
                    _load_libraries(config)
                allowed = set(closed.read()) | closed.tried
                if value not in allowed:
                    said.add(value)
                    yield key, value, sorted(allowed)


def values(config: DictConfig, key: str) -> list[str]:
    """Return a key's values; none if it is not set or the run does not use it."""
    if key.startswith("critic.") and not (config.critic.enable or config.algorithm.adv_estimator == "gae"):
        return []
    if key.endswith("checkpoint_engine.backend"):
        module = OmegaConf.select(config, f"{key.removesuffix('.backend')}.custom_backend_module")
        if module not in (None, WEIGHT_TRANSFER):
            return []
    if key.endswith("optim.optimizer") and OmegaConf.select(config, f"{key}_impl") != "torch.optim":
        return []
    value = OmegaConf.select(config, key)
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, ListConfig) else [str(value)]


def _load_libraries(config: DictConfig) -> None:
    """Import the modules that add to verl's registries in a run."""
    for module in filter(None, str(config.actor_rollout_ref.model.external_lib or "").split(",")):
        importlib.import_module(module)


def compared(module: str, function: str, name: str) -> set[str]:
    """Return the texts that a function's source compares `name` with, without those that it refuses.

    Many of verl's sets are defined only by such comparisons.
    """
    found: Any = importlib.import_module(module)
    for part in function.split("."):
        found = getattr(found, part)
    tree = ast.parse(textwrap.dedent(inspect.getsource(found)))
    assigned = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.Set, ast.Tuple))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    texts, refused = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and (here := _texts(node, name, assigned)):
            texts |= here
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and _is_unwritten(node.body[0]):
            refused |= _texts(node.test, name, assigned)
    return texts - refused


def _is_unwritten(statement: ast.stmt) -> bool:
    """Return whether a statement is a plain `raise NotImplementedError`."""
    return isinstance(statement, ast.Raise) and isinstance(statement.exc, ast.Name)


def _texts(compare: ast.Compare, name: str, assigned: Mapping[str, ast.expr]) -> set[str]:
    """Return the texts that `name` is compared with, directly or through a list assigned in the function."""
    sides = [compare.left, *compare.comparators]
    if name not in [getattr(side, "id", getattr(side, "attr", None)) for side in sides]:
        return set()
    sides = [assigned.get(side.id, side) if isinstance(side, ast.Name) else side for side in sides]
    return {
        node.value
        for side in sides
        for node in ast.walk(side)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _names(module: str, name: str) -> set[str]:
    """Return the names in a registry, or the values of a Literal."""
    found = getattr(importlib.import_module(module), name)
    return set(get_args(found)) if get_args(found) else set(found)


def _kl() -> set[str]:
    kinds = compared("verl.trainer.ppo.core_algos", "kl_penalty_forward", "kl_penalty")
    return kinds | {f"{kind}+" for kind in kinds}


def _backends() -> set[str]:
    importlib.import_module("verl.workers.engine")
    registry = importlib.import_module("verl.workers.engine.base").EngineRegistry
    return set(registry._engines["language_model"])


def _checkpoint_engines() -> set[str]:
    """Return the names that verl's files register, also those whose packages are missing on this machine."""
    folder = Path(importlib.import_module("verl.checkpoint_engine").__path__[0])
    pattern = re.compile(r'CheckpointEngineRegistry\.register\("(\w+)"\)')
    return {name for file in folder.rglob("*.py") for name in pattern.findall(file.read_text(encoding="utf-8"))}


def _precisions() -> set[str]:
    dtypes = importlib.import_module("verl.utils.torch_dtypes")
    known = (*dtypes.HALF_LIST, *dtypes.FLOAT_LIST, *dtypes.BFLOAT_LIST)
    return {str(each) for each in known if isinstance(each, (str, int))}


def _attentions() -> set[str]:
    from guidelines_core.verl_adapter.attention import NAME

    known = importlib.import_module("transformers.modeling_utils").ALL_ATTENTION_FUNCTIONS.valid_keys()
    return {"eager", NAME, *known}


def _optimizers() -> set[str]:
    optim = importlib.import_module("torch.optim")
    return {name for name, found in vars(optim).items() if isinstance(found, type) and found is not optim.Optimizer}


def _loggers() -> set[str]:
    return set(importlib.import_module("verl.utils.tracking").Tracking.supported_backend)


def _of(function: Callable[..., set[str]], *arguments: str) -> Callable[[], set[str]]:
    return lambda: function(*arguments)


CORE = "verl.trainer.ppo.core_algos"
PRECISIONS = ("model_dtype", "dtype", "mixed_precision.param_dtype", "mixed_precision.reduce_dtype",
              "mixed_precision.buffer_dtype")  # fmt: skip

SETS = (
    ClosedSet(("algorithm.adv_estimator",), frozenset({"grpo"}), _of(_names, CORE, "ADV_ESTIMATOR_REGISTRY")),
    ClosedSet(("algorithm.kl_penalty", f"{A}.kl_loss_type"), frozenset({"kl", "low_var_kl"}), _kl),
    ClosedSet(
        ("algorithm.kl_ctrl.type",), frozenset({"fixed"}), _of(compared, CORE, "get_kl_controller", "type")
    ),
    ClosedSet(
        (f"{A}.policy_loss.loss_mode",), frozenset({"vanilla"}), _of(_names, CORE, "POLICY_LOSS_REGISTRY")
    ),
    ClosedSet(
        (f"{A}.loss_agg_mode", "critic.loss_agg_mode"),
        frozenset({"token-mean"}),
        _of(compared, CORE, "agg_loss", "loss_agg_mode"),
    ),
    ClosedSet(
        (f"{CORRECTION}.rollout_is",),
        frozenset(),
        _of(compared, "verl.trainer.ppo.rollout_corr_helper", "compute_rollout_correction_weights", "rollout_is"),
    ),
    ClosedSet(
        (f"{CORRECTION}.loss_type",),
        frozenset({"ppo_clip"}),
        _of(compared, CORE, "compute_policy_loss_bypass_mode", "loss_type"),
    ),
    ClosedSet(
        (f"{A}.strategy", f"{REF}.strategy", "critic.strategy", f"{A}.fsdp_config.strategy",
         f"{REF}.fsdp_config.strategy"),
        frozenset({"fsdp", "fsdp2"}),
        _backends,
    ),
    ClosedSet(
        tuple(f"{role}.fsdp_config.{key}" for role in (A, REF) for key in PRECISIONS),
        frozenset({"fp32", "float32", "bf16", "bfloat16"}),
        _precisions,
    ),
    ClosedSet(
        (f"{A}.optim.lr_scheduler_type", "critic.optim.lr_scheduler_type"),
        frozenset({"constant"}),
        _of(compared, "verl.workers.config.optimizer", "FSDPOptimizerConfig.__post_init__", "lr_scheduler_type"),
    ),
    ClosedSet(
        (f"{A}.checkpoint.save_contents", f"{A}.checkpoint.load_contents"),
        frozenset({"model", "optimizer", "extra", "hf_model"}),
        lambda: {
            text
            for name in ("save", "load")
            for text in compared(
                "verl.utils.checkpoint.checkpoint_manager", "BaseCheckpointManager", f"checkpoint_{name}_contents"
            )
        },
    ),
    ClosedSet(
        ("data.truncation",),
        frozenset({"error"}),
        _of(compared, "verl.utils.torch_functional", "postprocess_data", "truncation"),
    ),
    ClosedSet(
        ("actor_rollout_ref.model.override_config.attn_implementation",),
        frozenset({"sdpa", "torch_varlen", "flash_attention_2"}),
        _attentions,
    ),
    ClosedSet(
        (f"{R}.checkpoint_engine.backend",), frozenset({"naive", "nccl"}), _checkpoint_engines
    ),
    ClosedSet(
        (f"{R}.dtype", f"{S}.dtype"),
        frozenset({"bfloat16", "float32", "auto"}),
        _of(_names, "vllm.config.model", "ModelDType"),
    ),
    ClosedSet(
        (f"{R}.load_format", f"{S}.load_format"),
        frozenset({"dummy", "auto"}),
        _of(_names, "vllm.model_executor.model_loader", "_LOAD_FORMAT_TO_MODEL_LOADER"),
    ),
    ClosedSet(
        (f"{R}.logprobs_mode",),
        frozenset({"processed_logprobs"}),
        _of(_names, "vllm.config.model", "LogprobsMode"),
    ),
    ClosedSet(
        (f"{R}.scheduling_policy", f"{S}.scheduling_policy"),
        frozenset({"fcfs"}),
        _of(_names, "vllm.config.scheduler", "SchedulerPolicy"),
    ),
    ClosedSet((f"{A}.optim.optimizer", "critic.optim.optimizer"), frozenset({"AdamW"}), _optimizers),
    ClosedSet(
        ("trainer.logger",), frozenset({"console", "file"}), _loggers
    ),
    ClosedSet(
        ("trainer.v1.sampler.max_off_policy_strategy",),
        frozenset({"drop"}),
        _of(compared, "verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer.__init__", "max_off_policy_strategy"),
    ),
)  # fmt: skip


KEYS = frozenset(key for closed in SETS for key in closed.keys)
