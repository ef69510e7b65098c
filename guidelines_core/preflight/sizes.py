"""Checks the sizes of batches, groups and steps, from the configuration alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.timing import PADDING_TOKENS, padded_sequences
from guidelines_core.preflight.findings import Finding, error, warning

ACTOR, ROLLOUT, REF = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.ref"

LARGEST_LR = 1e-3
"""The learning rate above which a warning is printed."""


def size_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every combination of sizes that verl would refuse, crash on or pad."""
    yield from _step_findings(config)
    yield from _group_findings(config)
    yield from _batch_findings(config)


def _step_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield findings about the number of steps, epochs and checkpoints."""
    trainer, data = config.trainer, config.data
    steps = trainer.total_training_steps
    reach = config.guidelines.data.size // data.train_batch_size * trainer.total_epochs
    if reach < steps:
        yield error(
            "trainer.total_epochs",
            trainer.total_epochs,
            f"{config.guidelines.data.size} problems in batches of {data.train_batch_size} last for {reach} of "
            f"{steps} steps",
            "raise it or guidelines.data.size, or lower trainer.total_training_steps",
        )
    if trainer.save_freq < 1:
        yield warning(
            "trainer.save_freq",
            trainer.save_freq,
            "no checkpoint is written, so the run cannot be resumed",
            "give the steps between two checkpoints",
        )


def _group_findings(config: DictConfig) -> Iterator[Finding]:
    rollout = config.actor_rollout_ref.rollout
    if config.algorithm.adv_estimator == "grpo" and rollout.n < 2:
        yield error(f"{ROLLOUT}.n", rollout.n, "GRPO compares the rollouts of a group", "give 2 or more")
    if rollout.n > 1 and rollout.temperature <= 0:
        yield error(
            f"{ROLLOUT}.temperature",
            rollout.temperature,
            f"all {rollout.n} rollouts of a prompt would be the same, with no advantage to learn from",
            "give a temperature above 0, such as 1.0",
        )
    lr = config.actor_rollout_ref.actor.optim.lr
    if lr <= 0:
        yield error(f"{ACTOR}.optim.lr", lr, "the planner would not be trained", "give 1e-6")
    elif lr > LARGEST_LR:
        yield warning(
            f"{ACTOR}.optim.lr",
            lr,
            f"Adam changes each weight by about as much a step; above {LARGEST_LR} a model soon writes no text",
            "give 1e-6, or 1e-5 with LoRA",
        )


def _batch_findings(config: DictConfig) -> Iterator[Finding]:
    data, actor, rollout = config.data, config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    mini = actor.ppo_mini_batch_size
    if mini > data.train_batch_size:
        yield error(
            f"{ACTOR}.ppo_mini_batch_size",
            mini,
            f"expected at most data.train_batch_size={data.train_batch_size}",
            f"give {data.train_batch_size} or a part of it",
        )
        return
    workers = layout.training_gpus(config)
    if data.train_batch_size * rollout.n % workers:
        yield error(
            "data.train_batch_size",
            data.train_batch_size,
            f"its {data.train_batch_size * rollout.n} rollouts must divide by {workers} training GPUs",
            f"give a multiple of {workers}",
        )
        return
    if layout.separate(config):
        sync = config.trainer.v1.separate_async.parameter_sync_step
        if sync * mini != data.train_batch_size:
            each = max(1, round(data.train_batch_size / sync))
            yield error(
                f"{ACTOR}.ppo_mini_batch_size",
                mini,
                f"separate_async needs data.train_batch_size={data.train_batch_size} = {sync} (trainer.v1."
                "separate_async.parameter_sync_step) x mini-batch",
                f"give {data.train_batch_size // sync}"
                if data.train_batch_size % sync == 0
                else f"give {each}, and data.train_batch_size={each * sync}",
            )
            return
    real, padded = padded_sequences(config)
    if padded > real:
        updates, last = padded // (mini * rollout.n), real % (mini * rollout.n)
        yield warning(
            f"{ACTOR}.ppo_mini_batch_size",
            mini,
            f"{real} rollouts are padded to {padded} by {padded - real} dummies of {PADDING_TOKENS} tokens: "
            f"{padded / real - 1:.0%} more sequences in old log-prob, reference and update, and the last of "
            f"{updates} optimizer steps sees {last} rollouts",
            f"{data.train_batch_size} or a divisor of it pads nothing",
        )
    if actor.use_dynamic_bsz:
        longest = data.max_prompt_length + data.max_response_length
        if actor.ppo_max_token_len_per_gpu < longest:
            yield error(
                f"{ACTOR}.ppo_max_token_len_per_gpu",
                actor.ppo_max_token_len_per_gpu,
                f"the longest sequence has {longest} tokens",
                f"give {longest} or more",
            )
        return
    each = padded // workers
    yield from _micro_findings(f"{ACTOR}.ppo_micro_batch_size_per_gpu", actor.ppo_micro_batch_size_per_gpu,
                               mini * rollout.n, workers, "mini-batch")  # fmt: skip
    yield from _micro_findings(f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
                               rollout.log_prob_micro_batch_size_per_gpu, each * workers, workers, "batch")  # fmt: skip
    if layout.uses_reference(config):
        ref = config.actor_rollout_ref.ref
        yield from _micro_findings(f"{REF}.log_prob_micro_batch_size_per_gpu", ref.log_prob_micro_batch_size_per_gpu,
                                   each * workers, workers, "batch")  # fmt: skip


def _micro_findings(key: str, micro: int | None, sequences: int, workers: int, of: str) -> Iterator[Finding]:
    """Yield a finding unless micro-batches divide a GPU's share of the sequences (`verl/workers/engine/utils.py`)."""
    share = sequences // workers
    small = [size for size in range(1, math.isqrt(share) + 1) if share % size == 0 and sequences % workers == 0]
    fitting = sorted({*small, *(share // size for size in small)})
    near = [str(size) for size in sorted(fitting, key=lambda size: abs(size - (micro or 8)))[:3]]
    remedy = f"give {' or '.join(near)}" if near else "change the mini-batch"
    if micro is None:
        yield error(key, micro, "verl needs a micro-batch size where use_dynamic_bsz is off", remedy)
    elif micro < 1 or sequences % (workers * micro):
        yield error(
            key, micro, f"the {of}'s {sequences} sequences must divide by {workers} training GPUs x {micro}", remedy
        )
