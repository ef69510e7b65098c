"""What is recorded of a step and in which order, and what ends the run after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from guidelines_core.runs import cost
from guidelines_core.runs.cost import Meter
from guidelines_core.runs.journal import STEP, STOP_FILE
from guidelines_core.verl_adapter.step_log import AlarmRaisedError, LogThenSave, StopAsked, stop_rules


class Records:
    """In order, what a run logged and saved."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def log(self, data: dict[str, Any], step: int) -> None:
        self.done.append((step, data))

    def save_due(self, at_once: bool) -> dict[str, float]:
        self.done.append("saved" if at_once else "asked")
        return {"timing_s/save_checkpoint": 1.0} if at_once else {}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
    alarms = {"stop_on": ["nan"], "limits": {"nan": {}, "rollout_mismatch": {"above": 0.1}}}
    return OmegaConf.create({"guidelines": {"alarms": alarms}, "trainer": {"default_local_dir": str(tmp_path)}})


def log(records: Records, config: DictConfig) -> LogThenSave:
    return LogThenSave(records, records.save_due, 3, Meter(2, 3.0, 0.0, {}), stop_rules(config))


def metrics(step: int, loss: float, **more: float) -> dict[str, Any]:
    return {STEP: step, "actor/loss": loss, "reward/graded": 4.0, "words": "are no metric", **more}


def test_a_step_is_recorded_with_its_cost_and_then_saved(config: DictConfig) -> None:
    records = Records()
    log(records, config).log(metrics(1, 0.1), 1)
    (step, data), asked = records.done
    assert (step, data["actor/loss"], asked) == (1, 0.1, "asked")
    assert data[cost.DOLLARS] == pytest.approx(3 * data[cost.GPU_HOURS])
    assert data[cost.ROLLOUT_GPU_S] == pytest.approx(data[cost.STEP_GPU_S] / 4)


def test_an_alarm_to_stop_on_ends_the_run_once_its_step_is_recorded_and_saved(config: DictConfig) -> None:
    records = Records()
    steps = log(records, config)
    steps.log(metrics(1, 0.1, **{"training/rollout_probs_diff_mean": 0.5}), 1)
    with pytest.raises(AlarmRaisedError, match=r"guidelines.alarms.stop_on: nan, step 2: not a number: actor/loss"):
        steps.log(metrics(2, float("nan")), 2)
    (_, first), asked, (step, _), saved, (_, last) = records.done
    assert (asked, step, saved) == ("asked", 2, "saved")
    assert last["timing_s/save_checkpoint"] == 1.0
    assert last[cost.HOURS] >= first[cost.HOURS]


def test_an_alarm_at_the_last_step_leaves_the_run_finished(config: DictConfig) -> None:
    log(Records(), config).log(metrics(3, float("nan")), 3)


def test_a_run_that_is_asked_to_stop_saves_first(config: DictConfig, tmp_path: Path) -> None:
    records = Records()
    (tmp_path / "stop").touch()
    with pytest.raises(StopAsked, match="saved after step 1"):
        log(records, config).log(metrics(1, 0.1), 1)
    assert records.done[1] == "saved"


def test_a_resumed_run_knows_the_steps_before_and_not_those_it_trains_again(config: DictConfig, tmp_path: Path) -> None:
    config.guidelines.alarms = {
        "stop_on": ["slow_step"],
        "limits": {"slow_step": {"times": 3, "at_least": 1, "after": 2}},
    }
    (tmp_path / "logs").mkdir()
    lines = [{"step": step, "data": {STEP: step, "timing_s/step": 90.0 if step == 4 else 2.0}} for step in (1, 2, 3, 4)]
    (tmp_path / "logs/attempt-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rules = stop_rules(config)
    assert rules is not None
    ended = rules.ended_by({STEP: 4, "timing_s/step": 20.0}, 4)
    assert str(ended) == "guidelines.alarms.stop_on: slow_step, step 4: the step took 20 s, the median step 2 s"


def test_without_stop_on_no_alarm_ends_a_run(config: DictConfig) -> None:
    config.guidelines.alarms.stop_on = []
    assert stop_rules(config) is None
    log(Records(), config).log(metrics(1, float("nan")), 1)
