from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.paths import CONF, ROOT
from guidelines_core.runs.alarms import RULES, Alarm, AlarmLog, active_alarms, alarms_of
from guidelines_core.runs.journal import STEP, Entry, Journal

LIMITS = yaml.safe_load((CONF / "alarms/limits.yaml").read_text())


def steps(**series: Sequence[float]) -> list[dict[str, float]]:
    """Return steps with the given metrics; `a__b` is the metric `a/b`."""
    names = [name.replace("__", "/") for name in series]
    rows = zip(*series.values(), strict=True)
    return [{STEP: number, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows, start=1)]


def names(found: Sequence[dict[str, float]]) -> set[str]:
    return set(active_alarms(found, LIMITS))


NOISE = [0.02, -0.03, 0.01, 0.04, -0.04]
"""Of a reward around its mean."""


def noisy(*means: tuple[float, int]) -> list[float]:
    values = [mean for mean, count in means for _ in range(count)]
    return [value + NOISE[index % 5] for index, value in enumerate(values)]


SICK = {
    "nan": steps(actor__pg_loss=[0.1, math.nan]),
    "reward_falling": steps(reward__mean=noisy((0.6, 20), (0.4, 20))),
    "reward_flat": steps(reward__mean=noisy((0.5, 150))),
    "entropy_collapse": steps(actor__entropy=[1.0, 0.9, 1.1, 0.4, 0.15, 0.12, 0.1]),
    "kl_spike": steps(actor__kl_loss=[0.001, 0.05, 0.05, 0.06, 0.05, 0.06, 0.7]),
    "gradient_spike": steps(actor__grad_norm=[9.0, 1.0, 1.1, 1.2, 1.0, 1.1, 13.0]),
    "mixed_groups": steps(reward__mixed_groups=[0.5, 0.3, 0.1, 0.0, 0.0, 0.0, 0.1]),
    "leak": steps(guideline__leak=[0.0, 0.2, 0.3, 0.3, 0.4, 0.4]),
    "repeated": steps(guideline__repeated=[0.0, 0.2, 0.4, 0.6, 0.7, 0.7]),
    "truncation": steps(guideline__truncated=[0.1] * 5, solution__truncated=[0.2, 0.5, 0.6, 0.7, 0.7]),
    "solver_slow": steps(solver__latency_p50_s=[9.0, 2.0, 2.1, 2.0, 1.9, 2.0, 7.0]),
    "rollout_mismatch": steps(training__rollout_probs_diff_mean=[0.01, 0.05]),
    "slow_step": steps(timing_s__step=[90.0, 20.0, 21.0, 20.0, 19.0, 20.0, 65.0]),
    "disk": steps(disk__checkpoints_left=[9.0, 1.4]),
}
"""For each rule the steps at whose last it is raised, and no other is."""

HEALTHY = {
    "nan": steps(actor__pg_loss=[math.nan, 0.1]),
    "reward_falling": steps(reward__mean=noisy((0.6, 20), (0.57, 20))),
    "reward_flat": steps(reward__mean=[0.3 + 0.002 * step + NOISE[step % 5] for step in range(150)]),
    "entropy_collapse": steps(actor__entropy=[1.0, 0.9, 1.1, 0.7, 0.5, 0.4, 0.3]),
    "kl_spike": steps(actor__kl_loss=[0.0, 0.0001, 0.0001, 0.0001, 0.0001, 0.0001, 0.08]),
    "gradient_spike": steps(actor__grad_norm=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 5.0]),
    "mixed_groups": steps(reward__mixed_groups=[0.0, 0.0, 0.0, 0.0]),
    "leak": steps(guideline__leak=[0.9, 0.0, 0.0, 0.1, 0.2, 0.1]),
    "repeated": steps(guideline__repeated=[0.9, 0.4, 0.5, 0.5, 0.5, 0.6]),
    "truncation": steps(guideline__truncated=[0.4] * 5, solution__truncated=[0.5] * 5),
    "solver_slow": steps(solver__latency_p50_s=[2.0, 0.5, 0.5, 0.5, 0.5, 0.5, 4.0]),
    "rollout_mismatch": steps(training__rollout_probs_diff_mean=[0.05, 0.01]),
    "slow_step": steps(timing_s__step=[90.0, 2.0, 2.0, 2.0, 2.0, 2.0, 9.0]),
    "disk": steps(disk__checkpoints_left=[1.4, 3.0]),
}
"""For each rule steps that it must not be raised by, though they are near its limits."""


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_is_raised_by_what_it_is_for_and_by_nothing_less(name: str) -> None:
    assert names(SICK[name]) == {name}
    assert names(HEALTHY[name]) == set()
    assert set(active_alarms(SICK[name], {**LIMITS, name: None})) == set()


def test_a_reward_near_its_top_is_not_flat() -> None:
    assert "reward_flat" not in names(steps(reward__mean=[0.99, 1.0] * 75))


def test_a_rise_too_small_to_matter_is_flat_however_sure_it_is() -> None:
    assert names(steps(reward__mean=[0.4 + 0.00004 * step for step in range(150)])) == {"reward_flat"}


def test_a_median_needs_enough_steps_after_the_first_which_warms_up() -> None:
    assert names(steps(timing_s__step=[20.0] * 5 + [90.0])) == set()
    assert names(steps(timing_s__step=[20.0] * 6 + [90.0])) == {"slow_step"}


def test_a_large_kl_is_an_alarm_at_the_first_step() -> None:
    assert active_alarms(steps(actor__kl_loss=[3.0]), LIMITS) == {"kl_spike": "KL to the reference is 3"}
    assert names(steps(actor__reward_kl_penalty=[3.0])) == {"kl_spike"}


def test_an_alarm_lasts_as_long_as_its_rule_holds() -> None:
    found = alarms_of(steps(training__rollout_probs_diff_mean=[0.0, 0.1, 0.2, 0.0, 0.3]), LIMITS)
    assert [(alarm.first, alarm.last) for alarm in found] == [(2, 3), (5, 5)]
    assert str(found[0]) == (
        "rollout_mismatch, steps 2 to 3: rollout and training differ by 0.1 in a token's probability, on average"
    )


def entry(step: int, **metrics: float) -> Entry:
    return Entry(step, {STEP: step, **{name.replace("__", "/"): value for name, value in metrics.items()}}, None)


def test_a_log_says_each_alarm_when_it_begins_and_counts_what_is_logged_after_a_step() -> None:
    log = AlarmLog(LIMITS)
    assert log.take(Entry(0, {"start/total": 9.0}, None)) == []
    assert log.take(entry(1, reward__mean=0.5)) == []
    assert log.take(Entry(1, {"disk/checkpoints_left": 1.0}, None)) == []
    (alarm,) = log.take(entry(2, reward__mean=0.5))
    assert alarm == Alarm("disk", 2, 2, "the disk has room for 1.0 checkpoints")
    assert log.take(entry(3, reward__mean=0.5)) == []
    assert [(alarm.first, alarm.last) for alarm in log.alarms] == [(2, 3)]


def test_steps_that_are_trained_again_take_their_old_alarms_away() -> None:
    log = AlarmLog(LIMITS, [entry(step, training__rollout_probs_diff_mean=0.1 * (step > 1)) for step in (1, 2, 3)])
    assert [(alarm.first, alarm.last) for alarm in log.alarms] == [(2, 3)]
    assert log.take(entry(2, training__rollout_probs_diff_mean=0.0)) == []
    assert log.alarms == []
    assert [step[STEP] for step in log.steps] == [1, 2]


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=20))
def test_a_log_ends_with_what_the_whole_history_gives(values: list[float]) -> None:
    log = AlarmLog(LIMITS)
    for step, value in enumerate(values, start=1):
        log.take(entry(step, training__rollout_probs_diff_mean=value))
    assert log.alarms == alarms_of(steps(training__rollout_probs_diff_mean=values), LIMITS)


RECORDED = {
    # experiments/run.py --name tiny with answers 0 and 1, `stop_on=[leak]` and `limits.leak.steps=4`: the random texts
    # are full of digits. The run was saved and ended after step 4.
    "leak": [("leak", 4, 4)],
    # experiments/run.py --name tiny with answers 0 and 1, actor.optim.lr=1 and without KL: the first update leaves a
    # planner that writes one text.
    "learning-rate-1": [("entropy_collapse", 4, 9), ("truncation", 5, 9), ("mixed_groups", 6, 9)],
    # experiments/run.py --name tiny: a model with random weights solves nothing and never ends a text.
    "untrained-random-model": [("mixed_groups", 5, 5), ("truncation", 5, 5)],
}
"""Journals of real runs, with the metrics that rules read, and the alarms that they raise."""


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_sick_run_raises_its_alarms(name: str) -> None:
    log = AlarmLog({**LIMITS, "leak": {**LIMITS["leak"], "steps": 4}})
    for each in Journal(ROOT / f"tests/support/journals/{name}.jsonl").entries():
        log.take(each)
    assert [(alarm.name, alarm.first, alarm.last) for alarm in log.alarms] == RECORDED[name]


def test_a_recorded_healthy_run_raises_none() -> None:
    recorded = json.loads((ROOT / "analysis/results/learning/gsm8k-0.5b-k4.json").read_text())["steps"]
    learnt = [{STEP: step.pop("step"), **{k: v for k, v in step.items() if v is not None}} for step in recorded]
    assert len(learnt) > 30
    assert alarms_of(learnt, LIMITS) == []
