"""Values of verl's keys that no run can be computed from: each is refused in one sentence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import ConfigError, compose, finished, unresolved
from guidelines_core.config.verl_values import COUNTS, SIZES, defaults
from guidelines_core.hardware.estimate import forecast
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.hardware.shapes import gpus
from guidelines_core.paths import CONF
from guidelines_core.preflight import config_findings, layout_table

FAST = "numinamath30k-3b-300steps-mathverify-fast"
LR, RANK = "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.model.lora_rank"
BILLION = 1_000_000_000


def test_every_count_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(FAST, [f"{key}=-1" for key in COUNTS], environ={})
    assert str(caught.value).splitlines() == [f"{key}=-1: expected 0 or more; give a whole number" for key in COUNTS]


@pytest.mark.parametrize("value", ["0", "-1"])
def test_every_size_below_one_is_refused(value: str) -> None:
    overrides = [f"{key}={value}" for key in SIZES]
    with pytest.raises(ConfigError) as caught:
        compose(FAST, overrides, environ={})
    said = str(caught.value).splitlines()
    assert {f"{key}={value}: expected 1 or more; give a whole number" for key in SIZES} <= set(said)


def test_null_is_refused_by_the_keys_name() -> None:
    keys = [*SIZES, LR, RANK, "trainer.save_freq", "trainer.test_freq", "actor_rollout_ref.model.path"]
    with pytest.raises(ConfigError) as caught:
        compose(FAST, [f"{key}=null" for key in keys], environ={})
    said = str(caught.value).splitlines()
    # verl's own value of this one is null.
    keys.remove("trainer.total_training_steps")
    assert sorted(line.partition(": expected ")[0] for line in said) == sorted(f"{key}=null" for key in keys)
    with pytest.raises(ConfigError, match=r"^trainer.total_training_steps=null: expected 1 or more"):
        compose(FAST, ["trainer.total_training_steps=null"], environ={})
    with pytest.raises(ConfigError, match=r"^data=null: expected a section, like verl's own keys"):
        compose(FAST, ["data=null"], environ={})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (f"{LR}=nan", f"{LR}=nan: expected a finite number"),
        (f"{LR}=inf", f"{LR}=inf: expected a finite number"),
        ("guidelines.solver.deadline_s=nan", "guidelines.solver.deadline_s=nan: expected a finite number"),
        (f"{RANK}=-1", f"{RANK}=-1: expected a rank such as 32, or 0, which trains all weights"),
    ],
)
def test_a_number_that_is_none_is_refused(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("tiny", [override], environ={})
    assert str(caught.value) == expected


def test_the_yaml_of_an_experiment_is_held_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    for file in CONF.iterdir():
        (tmp_path / "own" / file.name).symlink_to(file)
    text = "# @package _global_\ndefaults: [tiny, _self_]\ndata: {train_batch_size: }\ntrainer: {save_freq: often}\n"
    (tmp_path / "own" / "mine.yaml").write_text(text)
    monkeypatch.setattr("guidelines_core.config.compose.CONF", tmp_path / "own")
    with pytest.raises(ConfigError) as caught:
        compose("mine", environ={})
    assert str(caught.value).splitlines() == [
        "data.train_batch_size=null: expected a number, like verl's own 1024; change it, or leave it out",
        "trainer.save_freq=often: expected a number, like verl's own -1; change it, or leave it out",
    ]


@cache
def plain(name: str) -> DictConfig:
    return unresolved(name, environ={})


ODD = [
    ("data.train_batch_size", BILLION),
    ("actor_rollout_ref.rollout.n", BILLION),
    ("data.max_prompt_length", BILLION),
    ("data.max_response_length", BILLION),
    ("trainer.total_training_steps", BILLION),
    ("guidelines.solver.max_tokens", BILLION),
    ("guidelines.solver.samples", BILLION),
    (LR, BILLION),
    (RANK, BILLION),
    ("trainer.save_freq", BILLION),
    ("trainer.test_freq", BILLION),
    ("trainer.save_freq", 0),
    ("trainer.test_freq", -1),
    ("reward.reward_model.n_gpus_per_node", 0),
    ("actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu", 0),
]


@pytest.mark.parametrize(("key", "value"), ODD, ids=[f"{key}={value}" for key, value in ODD])
@pytest.mark.parametrize("name", ["quickstart", FAST])
def test_a_dry_run_of_an_odd_value_ends_with_findings(name: str, key: str, value: int) -> None:
    config = plain(name).copy()
    OmegaConf.update(config, key, value)
    gpu = gpus()["H100"]
    config = with_cache_sizes(finished(config), lambda: gpu)
    layout_table(config, gpu)
    assert forecast(config, gpu)
    assert all(str(finding) for finding in config_findings(config))


def test_a_rollout_without_gpus_is_refused_and_estimated_all_the_same() -> None:
    config = unresolved(FAST, ["layout=split-1p1-shared"], environ={}).copy()
    OmegaConf.update(config, "actor_rollout_ref.rollout.nnodes", 0)
    gpu = gpus()["H100"]
    config = with_cache_sizes(finished(config), lambda: gpu)
    assert forecast(config, gpu)
    assert "actor_rollout_ref.rollout.nnodes" in [finding.key for finding in config_findings(config)]


def test_verl_still_ships_its_defaults_in_one_file() -> None:
    assert OmegaConf.select(OmegaConf.create(defaults()), "data.train_batch_size") == 1024
