"""The reference run, key by key: every row of its tables is set, follows from other keys, or is retired."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from analysis.bench.arms import read_arms
from guidelines_core.config import layout
from guidelines_core.config.compose import compose
from guidelines_core.config.flat import flat
from guidelines_core.hardware.timing import padded_sequences
from guidelines_core.paths import ROOT

MATHVERIFY = "numinamath30k-3b-300steps-mathverify"
BASELINE = "numinamath30k-3b-300steps"
FAST = "numinamath30k-3b-300steps-mathverify-fast"
CHECKPOINTS = ROOT / "checkpoints" / "query-conditioned-guidelines"

SET: dict[str, Any] = {
    # Data and sequence
    "data.train_batch_size": 30,
    "data.max_prompt_length": 3072,
    "data.max_response_length": 3072,
    "data.filter_overlong_prompts": True,
    "data.truncation": "error",
    # Rollouts
    "actor_rollout_ref.rollout.n": 4,
    "actor_rollout_ref.rollout.name": "vllm",
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
    "actor_rollout_ref.rollout.gpu_memory_utilization": 0.4,
    "actor_rollout_ref.rollout.enable_chunked_prefill": False,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 8,
    # Actor
    "actor_rollout_ref.actor.ppo_mini_batch_size": 24,
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 8,
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.model.enable_gradient_checkpointing": True,
    "actor_rollout_ref.actor.fsdp_config.param_offload": False,
    # Reference model
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": 4,
    "actor_rollout_ref.ref.fsdp_config.param_offload": True,
    # Reward
    "guidelines.solver.model": "Qwen/Qwen2.5-3B-Instruct",
    # Algorithm and trainer
    "algorithm.adv_estimator": "grpo",
    "algorithm.use_kl_in_reward": True,
    "trainer.total_training_steps": 300,
    "trainer.total_epochs": 10,
    "trainer.save_freq": 25,
    "trainer.test_freq": 50,
    "trainer.n_gpus_per_node": 3,
    "trainer.nnodes": 1,
    # Model
    "actor_rollout_ref.model.path": "Qwen/Qwen2.5-3B-Instruct",
}
"""The rows that name a key of verl's: what both experiments hold under it."""

DERIVED: dict[str, tuple[Callable[[DictConfig], Any], Any]] = {
    "effective batch 30 x 4": (lambda c: c.data.train_batch_size * c.actor_rollout_ref.rollout.n, 120),
    "rollout vLLM on one GPU, actor and reference on the pool, solver on its own": (
        lambda c: [(p.label, p.role) for p in layout.placements(c)],
        [("0-2", "rollout + training"), ("3", "solver")],
    ),
    "total of 4 GPUs": (layout.gpus_needed, 4),
    "solver: one GPU, one engine": (lambda c: (layout.solver_gpus(c), layout.solver_engines(c)), (1, 1)),
    "solver's server has the solver's model": (
        lambda c: c.reward.reward_model.model_path,
        "Qwen/Qwen2.5-3B-Instruct",
    ),
    "max_response_length is the solver's limit too": (lambda c: c.guidelines.solver.max_tokens, 3072),
    "reward: accuracy only, by our manager": (
        lambda c: (c.reward.reward_manager.module.path, c.reward.reward_manager.name),
        ("pkg://guidelines_core.verl_adapter.reward_manager", "GuidelineRewardManager"),
    ),
    "GRPO, no critic": (lambda c: c.critic.enable, None),
    "mini-batch 24 is padded": (padded_sequences, (120, 192)),
    "prompt and response fit the planner's context": (lambda c: c.actor_rollout_ref.rollout.max_model_len, 6144),
    "V1 trainer": (lambda c: (c.trainer.use_v1, c.trainer.v1.trainer_mode), (True, "sync")),
}
"""The rows that follow from other keys."""

BY_EXPERIMENT = {
    BASELINE: ("exact_match", str(CHECKPOINTS / "numinamath30k-3b-300steps")),
    MATHVERIFY: ("math_verify", str(CHECKPOINTS / "numinamath30k-3b-300steps-mathverify")),
}
"""Grader and checkpoint directory of each."""


@lru_cache
def composed(name: str) -> DictConfig:
    return compose(name, environ={})


@pytest.mark.parametrize("name", [BASELINE, MATHVERIFY])
@pytest.mark.parametrize("key", SET)
def test_row_is_set(name: str, key: str) -> None:
    value = OmegaConf.select(composed(name), key, throw_on_missing=True)
    assert (value, type(value)) == (SET[key], type(SET[key]))


@pytest.mark.parametrize("name", [BASELINE, MATHVERIFY])
@pytest.mark.parametrize("row", DERIVED)
def test_row_follows(name: str, row: str) -> None:
    derive, expected = DERIVED[row]
    assert derive(composed(name)) == expected


@pytest.mark.parametrize("name", [BASELINE, MATHVERIFY])
def test_grader_and_checkpoint_directory(name: str) -> None:
    config = composed(name)
    assert (config.guidelines.grader.name, config.trainer.default_local_dir) == BY_EXPERIMENT[name]


def attention_name() -> str:
    from guidelines_core.verl_adapter import attention

    return attention.NAME


def differences(one: str, other: str) -> set[str]:
    a, b = (flat(OmegaConf.to_container(composed(name))) for name in (one, other))  # type: ignore[arg-type]
    return {key for key in a | b if a.get(key, "absent") != b.get(key, "absent")}


NAMED = {
    "guidelines.description",
    "trainer.experiment_name",
    "trainer.default_local_dir",
    "actor_rollout_ref.rollout.trace.experiment_name",
}


def test_the_two_runs_differ_in_the_grader_alone() -> None:
    assert differences(BASELINE, MATHVERIFY) - NAMED == {"guidelines.grader.name"}


def test_the_fast_sibling_pads_nothing_and_changes_only_how_a_step_is_computed() -> None:
    config = composed(FAST).actor_rollout_ref
    assert padded_sequences(composed(FAST)) == (120, 120)
    assert config.model.use_remove_padding
    assert config.model.override_config.attn_implementation == attention_name()
    found = {key for key in differences(MATHVERIFY, FAST) - NAMED if not key.startswith("critic.")}
    ours = {"guidelines.old_log_probs.agreement", "guidelines.checkpoints.keep_last"}
    assert {key for key in found if not key.startswith("actor_rollout_ref.")} == ours
    assert (composed(FAST).guidelines.checkpoints.keep_last, composed(FAST).guidelines.checkpoints.keep_best) == (2, 1)
    how = (
        "use_remove_padding",
        "use_fused_kernels",
        "use_liger",
        "ppo_max_token_len_per_gpu",
        "log_prob_max_token_len_per_gpu",
        "override_optimizer_config",
        "override_optimizer_config.fused",
        "use_dynamic_bsz",
        "attn_implementation",
        "param_offload",
        "model_dtype",
    )
    found -= ours
    assert {key for key in found if not key.endswith(how)} == {"actor_rollout_ref.actor.ppo_mini_batch_size"}
    # The policy's own weights stay in fp32.
    assert config.actor.fsdp_config.model_dtype == "fp32"


def test_the_fast_sibling_is_what_was_measured() -> None:
    arm = next(arm for arm in read_arms(ROOT / "analysis/arms/update.yaml") if arm.name == "packed-liger-adam")
    measured, fast = (
        OmegaConf.to_container(compose(name, overrides, environ={}).actor_rollout_ref, resolve=True)
        for name, overrides in ((arm.experiment, arm.overrides), (FAST, arm.overrides[:3]))
    )
    for config in (measured, fast):
        assert isinstance(config, dict)
        config["rollout"].pop("trace")
    assert fast == measured
