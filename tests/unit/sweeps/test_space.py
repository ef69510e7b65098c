"""What of a space can run, what follows from a point, and what refuses a space."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.hardware.shapes import gpus
from guidelines_core.hardware.timing import padded_sequences
from guidelines_core.preflight import config_findings
from sweeps.axes import BATCH, LAYOUT, MINI, RESPONSE, ROLLOUTS, SPACES, TOKENS, UPDATES, Point
from sweeps.machine import Machine
from sweeps.space import Space

EXPERIMENT = "numinamath30k-3b-300steps-mathverify"
FOUR = Machine(4, gpus()["H100"])


def space(
    tmp_path: Path, axes: dict[str, list[object]], machine: Machine = FOUR, name: str = EXPERIMENT, *overrides: str
) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"axes": axes}, sort_keys=False))
    return Space.load(file, name, overrides, machine)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Space:
    axes: dict[str, list[object]] = {
        BATCH: [12, 15, 16, 20], ROLLOUTS: [1, 4, 6], UPDATES: [1, 2, 4], RESPONSE: [3072, 40000],
    }  # fmt: skip
    return space(tmp_path_factory.mktemp("wide"), axes)


@pytest.mark.parametrize("file", sorted(SPACES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_space_of_the_project_has_points(file: Path) -> None:
    name = "quickstart" if file.stem == "quick" else EXPERIMENT
    assert Space.load(file, name, (), FOUR).axes


def test_the_experiments_own_values_join_the_axes_and_are_the_reference(tmp_path: Path) -> None:
    found = space(tmp_path, {BATCH: [96, 12], UPDATES: [2], LAYOUT: ["split-1p2p1"]})
    assert found.axes == {BATCH: (12, 30, 96), UPDATES: (1, 2), LAYOUT: ("split-1p2p1", "hybrid-3p1")}
    assert found.reference == {BATCH: 30, UPDATES: 1, LAYOUT: "hybrid-3p1"}


def test_the_reference_is_the_experiment_to_the_key(tmp_path: Path) -> None:
    assert space(tmp_path, {BATCH: [12]}).config(None) == compose(EXPERIMENT)


@pytest.mark.parametrize(
    ("point", "word"),
    [
        ({BATCH: 20, ROLLOUTS: 4, UPDATES: 1, RESPONSE: 3072}, "must divide by 3 training GPUs"),
        ({BATCH: 15, ROLLOUTS: 4, UPDATES: 2, RESPONSE: 3072}, "does not divide by updates_per_step=2"),
        ({BATCH: 16, ROLLOUTS: 6, UPDATES: 4, RESPONSE: 3072}, "None"),
        ({BATCH: 20, ROLLOUTS: 6, UPDATES: 4, RESPONSE: 3072}, "None"),
        ({BATCH: 12, ROLLOUTS: 1, UPDATES: 1, RESPONSE: 3072}, "compares the rollouts of a group"),
        ({BATCH: 12, ROLLOUTS: 4, UPDATES: 1, RESPONSE: 40000}, "the model's context is"),
    ],
)
def test_a_point_is_refused_for_its_reason(wide: Space, point: Point, word: str) -> None:
    assert word in str(wide.reason(point))


def test_too_few_gpus_refuse_a_layout(tmp_path: Path) -> None:
    two = Machine(2, gpus()["H200"])
    found = space(tmp_path, {LAYOUT: ["1p1"]}, two)
    assert found.reason({LAYOUT: "hybrid-3p1"}) == "4 GPUs are needed, 2 are there"
    assert found.reason({LAYOUT: "1p1"}) is None


def test_a_mini_batch_that_is_an_axis_itself_must_pad_nothing(tmp_path: Path) -> None:
    found = space(tmp_path, {MINI: [15, 30]})
    assert found.reason({MINI: 24}) == f"{MINI}: 120 rollouts would be padded to 192"
    assert found.config({MINI: 15}).actor_rollout_ref.actor.ppo_mini_batch_size == 15


def test_estimated_memory_refuses_a_point(tmp_path: Path) -> None:
    found = space(tmp_path, {TOKENS: [8192, 98304]})
    assert found.reason({TOKENS: 8192}) is None
    assert "memory: training" in str(found.reason({TOKENS: 98304}))
    assert found.memory_share({TOKENS: 98304}) > found.memory_share({TOKENS: 8192}) > 0.1


def test_an_impossible_space_is_refused_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no point of the space can run.*\n.*4 GPUs are needed, 1 are there"):
        space(tmp_path, {BATCH: [12, 24]}, Machine(1, gpus()["H100"]))


def test_an_unknown_axis_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"axis data\.train_batchsize: there is no such key"):
        space(tmp_path, {"data.train_batchsize": [12]})


def test_every_point_that_can_run_pads_nothing_and_passes_preflight(tmp_path: Path) -> None:
    found = space(tmp_path, {BATCH: [12, 14, 24], ROLLOUTS: [2, 3, 6], UPDATES: [2, 4], LAYOUT: ["split-1p2p1"]})
    can_run = [point for point in found.points() if found.reason(point) is None]
    assert 10 < len(can_run) < len(list(found.points()))
    for point in can_run[::5]:
        config = found.config(point)
        real, padded = padded_sequences(config)
        assert real == padded
        assert config.actor_rollout_ref.actor.ppo_mini_batch_size * point[UPDATES] == point[BATCH]
        assert [finding for finding in config_findings(config) if finding.severity == "error"] == []


def test_looking_at_a_point_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    axes: dict[str, list[object]] = {BATCH: [12, 24, 48], ROLLOUTS: [2, 8], RESPONSE: [512]}
    looked, fresh = space(tmp_path, axes), space(tmp_path, axes)
    for point in looked.points():
        looked.reason(point)
    last = {BATCH: 12, ROLLOUTS: 2, RESPONSE: 512}
    assert looked.config(last) == fresh.config(last)


def test_lengths_reach_all_that_follows_from_them(tmp_path: Path) -> None:
    config = space(tmp_path, {RESPONSE: [512]}).config({RESPONSE: 512})
    assert config.actor_rollout_ref.rollout.response_length == 512
    assert config.guidelines.solver.max_tokens == 512
    assert config.reward.reward_model.rollout.max_model_len == 3072 + 512 + 512 + 256


def test_only_what_a_running_trainer_cannot_change_is_cold(tmp_path: Path) -> None:
    share = "actor_rollout_ref.rollout.gpu_memory_utilization"
    found = space(tmp_path, {BATCH: [12], share: [0.5]})
    assert found.cold({BATCH: 12, share: 0.5}) == found.cold({BATCH: 30, share: 0.5}) == (0.5,)
