"""Rollouts without verdict where the solver shares the training GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guidelines_core.runs.cost import Meter
from guidelines_core.runs.journal import STEP, STOP_FILE
from guidelines_core.verl_adapter import colocated
from guidelines_core.verl_adapter.colocated import PROBLEM, UNGRADED, as_objects
from guidelines_core.verl_adapter.lost_rollouts import TooManyLostError
from guidelines_core.verl_adapter.step_log import LogThenSave
from guidelines_core.verl_adapter.trainer import Recording

WHY = "problem 7: the solver refused the request: HTTP status 400"
KEYS = ["7-a_0_0", "7-a_1_0"]


class Queue:
    """The rollouts' fields in verl's transfer queue.

    Attributes:
        fields: values by key and name.
    """

    def __init__(self) -> None:
        names = (*PROBLEM, "extra_fields")
        self.fields: dict[str, dict[str, Any]] = {key: {name: {} for name in names} for key in KEYS}

    def kv_batch_get(self, keys: Sequence[str], partition_id: str, select_fields: Sequence[str]) -> dict[str, Any]:
        return {name: [self.fields[key][name] for key in keys] for name in select_fields}

    def kv_batch_put(self, keys: Sequence[str], partition_id: str, fields: Any) -> None:
        for key, extra in zip(keys, fields["extra_fields"], strict=True):
            self.fields[key]["extra_fields"] = getattr(extra, "data", extra)

    def kv_clear(self, keys: Sequence[str], partition_id: str) -> None:
        for key in keys:
            del self.fields[key]


class Batch(SimpleNamespace):
    """The keys of some rollouts."""

    def select_keys(self, keys: list[str]) -> Batch:
        return Batch(keys=keys, partition_id=self.partition_id)


class Verl:
    """What verl's trainer does in a validation and with a reward on the training GPUs."""

    def _validate(self) -> dict[str, Any]:
        batch = self._compute_reward_colocate(Batch(keys=KEYS, partition_id="val"))
        return {"validated": len(batch.keys)}

    def _compute_reward_colocate(self, batch: Any, metrics: Any = None) -> Any:
        self.reward_loop_manager.compute_rm_score(SimpleNamespace(non_tensor_batch={}))  # type: ignore[attr-defined]
        return batch


class Trainer(Recording, Verl):
    """A trainer whose reward workers return the given rows.

    Args:
        graded: the field `graded` of each rollout, empty for one without verdict.
    """

    def __init__(self, graded: Sequence[str]) -> None:
        row = UNGRADED["reward_extra_info"]
        columns = {**{name: as_objects([row[name]] * len(graded)) for name in row}, "graded": as_objects([*graded])}
        output = SimpleNamespace(meta_info={"reward_extra_keys": list(row)}, non_tensor_batch=columns)
        self.logger: Any = None
        self.reward_loop_manager: Any = SimpleNamespace(compute_rm_score=lambda data: output, first_failure=lambda: WHY)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(colocated, "tq", made)
    return made


def test_a_rollout_without_verdict_is_dropped_from_a_validation(queue: Queue) -> None:
    assert Trainer(["", "rows"])._validate() == {"validated": 1}
    assert list(queue.fields) == KEYS[1:]
    assert queue.fields[KEYS[1]]["extra_fields"]["reward_extra_info"]["graded"] == "rows"


def test_a_validation_before_training_without_any_verdict_ends_with_the_first_failure(queue: Queue) -> None:
    trainer = Trainer(["", ""])
    manager = trainer.reward_loop_manager
    with pytest.raises(TooManyLostError, match=f"none of 2 rollouts got a verdict; the first: {WHY}"):
        trainer._validate()
    assert trainer.reward_loop_manager is manager


def test_a_step_whose_validation_got_no_verdict_is_recorded_and_saved_before_the_run_ends(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
    done: list[str] = []
    tracking = SimpleNamespace(log=lambda data, step: done.append(f"step {step}"))

    def save(at_once: bool) -> dict[str, float]:
        done.append(f"save {at_once}")
        return {}

    trainer = Trainer(["", ""])
    trainer.logger = LogThenSave(tracking, save, 9, Meter(0, None, 0.0, {}))
    assert trainer._validate() == {}
    with pytest.raises(TooManyLostError, match=f"none of 2 rollouts got a verdict; the first: {WHY}"):
        trainer.logger.log({STEP: 4}, 4)
    assert done == ["step 4", "save True"]
