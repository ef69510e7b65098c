"""An exported point is an experiment of its own, and a confirmed gain has an interval."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from guidelines_core.config.compose import compose
from guidelines_core.hardware.shapes import gpus
from guidelines_core.paths import CONF
from sweeps.attributes import REFERENCE
from sweeps.axes import BATCH, LAYOUT, RESPONSE, ROLLOUTS, UPDATES
from sweeps.candidates import distributions
from sweeps.export import NAMES, ExportError, confirm, export, ratio
from sweeps.keys import differences
from sweeps.loop import TrialRequest
from sweeps.machine import Machine
from sweeps.objective import Measured
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, open_study
from sweeps.trial import Steps

BASE = "numinamath30k-3b-300steps-mathverify"
POINT = {BATCH: 60, ROLLOUTS: 8, RESPONSE: 1536, UPDATES: 2, LAYOUT: "split-1p2p1"}


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"exported-by-test-{os.getpid()}"
    yield chosen
    (CONF / f"{chosen}.yaml").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def space() -> Space:
    axes = {BATCH: (30, 60), ROLLOUTS: (4, 8), RESPONSE: (1536, 3072), UPDATES: (1, 2),
            LAYOUT: ("hybrid-3p1", "split-1p2p1")}  # fmt: skip
    return Space(BASE, ("data.seed=3", *Steps().overrides()), axes, Machine(4, gpus()["H100"]))


@pytest.fixture
def study(space: Space, tmp_path: Path) -> optuna.Study:
    made = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"))
    for point, rate, attributes in ((space.reference, 2.0, {REFERENCE: True}), (POINT, 5.0, {})):
        made.add_trial(
            optuna.create_trial(
                value=rate,
                params=point,
                distributions=distributions(space),
                user_attrs={**attributes, "rate": rate, "truncated": 0.0},
            )
        )
    return made


def test_the_export_is_the_point_to_the_key_and_no_trial(study: optuna.Study, space: Space, name: str) -> None:
    file = export(study, space, name, ["data.seed=3"])
    found = compose(name)
    wanted = Space(BASE, ("data.seed=3",), space.axes, space.machine).config(POINT)
    assert set(differences(found, wanted)) == NAMES
    assert "max_model_len" not in Path(file).read_text()
    assert found.trainer.total_training_steps == 300
    assert found.trainer.v1.separate_async.parameter_sync_step == 2
    assert "2.50 times the reference" in found.guidelines.description
    assert study.study_name in Path(file).read_text()
    assert export(study, space, name, ["data.seed=3"]) == file


def test_the_reference_is_exported_as_it_is(space: Space, tmp_path: Path, name: str) -> None:
    made = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"))
    attributes = {REFERENCE: True, "rate": 2.0, "truncated": 0.0}
    made.add_trial(
        optuna.create_trial(
            value=2.0, params=space.reference, distributions=distributions(space), user_attrs=attributes
        )
    )
    export(made, space, name, [])
    assert compose(name).actor_rollout_ref.actor.ppo_mini_batch_size == 24


def test_a_larger_batch_takes_the_epochs_that_its_steps_need(name: str, tmp_path: Path) -> None:
    axes = {BATCH: (30, 120)}
    space = Space(BASE, ("trainer.total_epochs=1",), axes, Machine(4, gpus()["H100"]))
    made = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"))
    attributes = {"rate": 2.0, "truncated": 0.0}
    found = optuna.create_trial(
        value=2.0, params={BATCH: 120}, distributions=distributions(space), user_attrs=attributes
    )
    made.add_trial(found)
    export(made, space, name, ["trainer.total_epochs=1"])
    # 300 steps of 120 problems, of which there are 30,000.
    assert compose(name).trainer.total_epochs == 2


def test_another_experiments_name_is_refused(study: optuna.Study, space: Space) -> None:
    with pytest.raises(ExportError, match=r"quickstart\.yaml is there already: give another name"):
        export(study, space, "quickstart", [])


def test_a_study_without_a_best_point_exports_nothing(space: Space, tmp_path: Path, name: str) -> None:
    empty = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'empty.db'}"))
    with pytest.raises(ExportError, match="no trial kept the limits"):
        export(empty, space, name, [])


def test_a_ratio_is_of_pairs_and_its_interval_holds_the_truth() -> None:
    found = ratio([2.0, 4.4, 7.2], [1.0, 2.0, 4.0])
    assert found.value == pytest.approx((2.0 * 2.2 * 1.8) ** (1 / 3))
    assert found.low < 1.8 < 2.2 < found.high
    assert ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]).low == pytest.approx(2.0)
    alone = ratio([2.0], [1.0])
    assert alone.value == pytest.approx(2.0)
    assert (alone.low, alone.high) == (0.0, math.inf)


def test_confirming_takes_turns(study: optuna.Study, space: Space) -> None:
    requests: list[TrialRequest] = []

    def measure(one: TrialRequest) -> Measured:
        requests.append(one)
        return Measured(3.0 if one.reference else 6.0, 0.0, {})

    assert confirm(study, space, measure, "now").value == pytest.approx(2.0)
    assert [one.reference for one in requests] == [True, False, False, True, True, False]
    assert {tuple(one.point.values()) for one in requests if not one.reference} == {tuple(POINT.values())}
    assert len({one.name for one in requests}) == 6
