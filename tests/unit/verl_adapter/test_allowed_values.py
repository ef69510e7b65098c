"""Every key with a closed set of values refuses a misspelt one and names the nearest."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import changed, compose, experiments
from guidelines_core.preflight.inside import value_findings
from guidelines_core.verl_adapter.allowed_values import KEYS, SETS, ClosedSet, compared, values, wrong_values


@lru_cache
def experiment() -> DictConfig:
    return compose("quickstart", environ={})


@lru_cache
def allowed(closed: ClosedSet) -> frozenset[str]:
    return frozenset(closed.read())


@pytest.mark.parametrize("closed", SETS, ids=lambda closed: closed.keys[0])
def test_what_the_experiments_use_is_in_the_set(closed: ClosedSet) -> None:
    assert closed.tried <= allowed(closed)
    assert len(allowed(closed)) > 1


@pytest.mark.parametrize("name", sorted(experiments()))
def test_no_experiment_makes_a_start_import_verl_for_its_values(name: str) -> None:
    config = compose(name, environ={})
    for closed in SETS:
        for key in closed.keys:
            assert set(values(config, key)) <= closed.tried, key


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a key and a value of its set with a letter left out, doubled or exchanged."""
    closed = draw(st.sampled_from(SETS))
    key = draw(st.sampled_from(closed.keys))
    value = draw(st.sampled_from(sorted(allowed(closed))))
    place = draw(st.integers(0, len(value) - 1))
    letter = draw(st.sampled_from(["", value[place] * 2, "x", "q"]))
    wrong = value[:place] + letter + value[place + 1 :]
    assume(wrong and wrong not in allowed(closed))
    return key, wrong


@given(misspelt())
@settings(max_examples=100)
def test_a_misspelt_value_is_refused_with_the_nearest(drawn: tuple[str, str]) -> None:
    key, wrong = drawn
    values: dict[str, object] = {"critic.enable": True}
    values[key] = [wrong] if isinstance(OmegaConf.select(experiment(), key), list) else wrong
    if key.endswith("checkpoint_engine.backend"):
        values[f"{key.removesuffix('backend')}custom_backend_module"] = None
    config = changed(experiment(), values)
    (finding,) = value_findings(config)
    assert (finding.severity, finding.key, finding.value) == ("error", key, wrong)
    nearest = finding.remedy.removeprefix("did you mean ").removesuffix("?")
    assert nearest in finding.reason


REPORTED = {
    "algorithm.adv_estimator": ("gropo", "grpo"),
    "actor_rollout_ref.actor.kl_loss_type": ("low_var", "low_var_kl"),
    "data.truncation": ("eror", "error"),
    "algorithm.kl_penalty": ("xx", ""),
    "actor_rollout_ref.actor.strategy": ("fsdp3", "fsdp"),
    "actor_rollout_ref.actor.policy_loss.loss_mode": ("foo", ""),
    "actor_rollout_ref.model.override_config.attn_implementation": ("foo", ""),
    "reward.reward_model.rollout.dtype": ("foo", ""),
    "actor_rollout_ref.actor.loss_agg_mode": ("foo", ""),
    "actor_rollout_ref.actor.optim.lr_scheduler_type": ("foo", ""),
}


def test_a_misspelt_backend_is_refused_though_a_layout_loads_a_module_of_its_own_with_it() -> None:
    key = "actor_rollout_ref.rollout.checkpoint_engine.backend"
    words = ["layout=split-1p2p1", f"{key}=ncl"]
    (finding,) = value_findings(compose("numinamath30k-3b-300steps-mathverify-fast", words, environ={}))
    assert (finding.severity, finding.key, finding.value) == ("error", key, "ncl")
    assert "nccl" in finding.remedy


@pytest.mark.parametrize("key", REPORTED)
def test_a_reported_value_is_refused(key: str) -> None:
    value, nearest = REPORTED[key]
    findings = list(value_findings(compose("quickstart", [f"{key}={value}"], environ={})))
    assert [(finding.key, finding.value) for finding in findings] == [(key, value)]
    assert nearest in findings[0].remedy


def test_a_value_that_is_allowed_and_was_not_tried_here_is_no_finding() -> None:
    config = compose("quickstart", ["algorithm.adv_estimator=rloo", "data.truncation=left"], environ={})
    assert list(wrong_values(config)) == []


def test_what_a_function_refuses_is_not_among_what_it_compares() -> None:
    kinds = compared("verl.trainer.ppo.core_algos", "kl_penalty_forward", "kl_penalty")
    assert "low_var_kl" in kinds
    assert "full" not in kinds


def test_every_key_is_one_of_the_configuration() -> None:
    optional = "actor_rollout_ref.model.override_config.attn_implementation"
    for key in KEYS - {optional}:
        assert "\0" not in str(OmegaConf.select(experiment(), key, throw_on_missing=True, default="\0")), key
