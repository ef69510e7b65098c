"""What would fail later, found before anything starts, and the files that a run needs, made."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig

from guidelines_core.cpu.models import ModelError, ensure_model
from guidelines_core.dataset import ensure
from guidelines_core.host import MEMORY_GB
from guidelines_core.paths import ROOT, anchored
from guidelines_core.problems import DatasetError
from guidelines_core.prompts import planner_messages


class Refused(RuntimeError):
    """The run cannot start; the message lists every finding with its key, value and remedy."""


def prepare(config: DictConfig, *, dry_run: bool) -> None:
    """Check `config` and, unless `dry_run`, make its models and data.

    Raises:
        Refused: the run would fail later.
    """
    findings = [*arithmetic_findings(config), *_machine_findings(config), *_file_findings(config)]
    if findings:
        raise Refused("\n".join(findings))
    if dry_run:
        return
    try:
        for model in sorted(set(_models(config))):
            if model.startswith("/"):
                ensure_model(Path(model))
        data = config.guidelines.data
        source = str(anchored(data.source)) if anchored(data.source).exists() else data.source
        ensure(
            source,
            Path(config.data.train_files).parent,
            size=data.size,
            seed=data.seed,
            val_size=data.val_size,
            planner_messages=partial(planner_messages, style=config.guidelines.prompts.style),
        )
    except (ModelError, DatasetError) as error:
        raise Refused(str(error)) from error


def _models(config: DictConfig) -> list[str]:
    return [config.actor_rollout_ref.model.path, config.guidelines.solver.model]


def arithmetic_findings(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every combination of sizes that verl or vLLM would refuse or crash on."""
    data, actor, rollout = config.data, config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.ppo_mini_batch_size > data.train_batch_size:
        yield (
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}: expected at most "
            f"data.train_batch_size={data.train_batch_size}"
        )
    workers = config.trainer.n_gpus_per_node * config.trainer.nnodes
    micro = actor.ppo_micro_batch_size_per_gpu
    if micro and (actor.ppo_mini_batch_size * rollout.n) % (workers * micro):
        yield (
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}: its {rollout.n} rollouts each "
            f"must divide by {workers} workers x ppo_micro_batch_size_per_gpu={micro}"
        )
    needed = data.max_prompt_length + data.max_response_length
    if rollout.max_model_len is None or rollout.max_model_len < needed:
        yield (
            f"actor_rollout_ref.rollout.max_model_len={rollout.max_model_len}: expected at least "
            f"data.max_prompt_length + data.max_response_length = {needed}"
        )
    solver = config.reward.reward_model.rollout
    prompt = data.max_prompt_length + data.max_response_length
    if solver.max_model_len is None or solver.max_model_len < prompt + config.guidelines.solver.max_tokens:
        yield (
            f"reward.reward_model.rollout.max_model_len={solver.max_model_len}: expected at least the question and "
            f"the guideline ({prompt} tokens) + guidelines.solver.max_tokens={config.guidelines.solver.max_tokens}"
        )
    for key, engine in (("actor_rollout_ref.rollout", rollout), ("reward.reward_model.rollout", solver)):
        if (
            not engine.enable_chunked_prefill
            and engine.max_model_len
            and engine.max_num_batched_tokens < engine.max_model_len
        ):
            yield (
                f"{key}.max_num_batched_tokens={engine.max_num_batched_tokens}: without chunked prefill vLLM needs at "
                f"least max_model_len={engine.max_model_len}"
            )
    if config.trainer.total_training_steps is None or config.trainer.total_training_steps <= 0:
        yield f"trainer.total_training_steps={config.trainer.total_training_steps}: expected a number above 0"


def _machine_findings(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for what the machine lacks."""
    if config.trainer.device == "cuda":
        wanted = config.trainer.n_gpus_per_node * config.trainer.nnodes + 1
        found = _gpus()
        if found < wanted:
            yield (
                f"trainer.n_gpus_per_node={config.trainer.n_gpus_per_node} and one GPU for the solver: "
                f"{wanted} GPUs needed, {found} found; run on a machine that has them"
            )
        return
    free = psutil.virtual_memory().available / 1e9
    if free < MEMORY_GB:
        yield f"{free:.1f} GB of memory are free: a run on a CPU needs {MEMORY_GB:.0f} GB; end other programs"
    room = shutil.disk_usage(ROOT).free / 1e9
    if room < DISK_GB:
        yield f"{room:.1f} GB of disk are free: a run's checkpoints and models need {DISK_GB} GB"


DISK_GB = 6


def _gpus() -> int:
    """Return the number of GPUs that torch sees."""
    import torch

    return int(torch.cuda.device_count())


def _file_findings(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every model or data file that is named and not there."""
    source: Any = config.guidelines.data.source
    if Path(source).suffix in (".jsonl", ".json", ".parquet") and not anchored(source).exists():
        yield f"guidelines.data.source={source}: no such file; a relative path is meant from {ROOT}"
    module = config.reward.custom_reward_function.path
    if module.startswith("pkg://") and importlib.util.find_spec(module.removeprefix("pkg://")) is None:
        yield f"reward.custom_reward_function.path={module}: this module cannot be imported"
