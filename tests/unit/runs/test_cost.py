from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.runs import cost
from guidelines_core.runs.cost import Meter, spent


def test_gpu_hours_count_from_the_launch_and_a_step_from_the_record_before() -> None:
    meter = Meter(4, 2.5, began=1000.0, before={})
    meter.step_begins(2800.0)
    found = meter.step(4600.0, graded=120)
    assert found[cost.HOURS] == pytest.approx(1.0)
    assert found[cost.GPU_HOURS] == pytest.approx(4.0)
    assert found[cost.DOLLARS] == pytest.approx(10.0)
    assert found[cost.STEP_GPU_S] == pytest.approx(4 * 1800)
    assert found[cost.STEP_DOLLARS] == pytest.approx(5.0)
    assert found[cost.ROLLOUT_GPU_S] == pytest.approx(60.0)
    assert found[cost.ROLLOUT_DOLLARS] == pytest.approx(5 / 120)
    assert meter.step(4660.0, graded=0) == pytest.approx(
        {cost.HOURS: 3660 / 3600, cost.GPU_HOURS: 4 * 3660 / 3600, cost.DOLLARS: 10 * 3660 / 3600,
         cost.STEP_GPU_S: 240.0, cost.STEP_DOLLARS: 240 / 3600 * 2.5}
    )  # fmt: skip


def test_energy_is_the_difference_of_two_readings_and_unknown_without_them() -> None:
    readings = iter([3.6e6, 7.2e6, 10.8e6, None])
    meter = Meter(1, None, 0.0, {}, lambda: next(readings))
    meter.step_begins(10.0)
    found = meter.step(20.0, graded=10)
    assert found[cost.KWH] == pytest.approx(2.0)
    assert found[cost.STEP_WH] == pytest.approx(1000.0)
    assert found[cost.ROLLOUT_WH] == pytest.approx(100.0)
    assert cost.DOLLARS not in found
    assert cost.KWH not in meter.total(30.0)


def test_a_counter_that_was_reset_says_nothing() -> None:
    readings = iter([100.0, 100.0, 5.0])
    meter = Meter(1, None, 0.0, {}, lambda: next(readings))
    meter.step_begins(1.0)
    assert not {cost.KWH, cost.STEP_WH} & set(meter.step(2.0, graded=1))


def test_a_cpu_has_hours_and_no_gpu_hours_even_with_a_price() -> None:
    meter = Meter(0, 2.0, 0.0, {})
    meter.step_begins(1800.0)
    found = meter.step(3600.0, graded=16)
    assert found == {cost.HOURS: 1.0, cost.GPU_HOURS: 0.0}
    assert cost.in_words(found) == "1.00 hours of a CPU machine, no GPU-hours"


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=6), st.integers(1, 64), st.floats(0.01, 10))
def test_the_steps_costs_add_up_to_the_runs(seconds: list[float], gpus: int, price: float) -> None:
    meter = Meter(gpus, price, 0.0, {})
    now, steps = 0.0, 0.0
    meter.step_begins(now)
    for each in seconds:
        now += each
        found = meter.step(now, graded=1)
        steps += found[cost.STEP_DOLLARS]
    assert found[cost.DOLLARS] == pytest.approx(steps, abs=1e-6)


def journal(directory: Path, attempt: int, *entries: dict[str, float]) -> None:
    (directory / "logs").mkdir(exist_ok=True)
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in enumerate(entries)]
    (directory / f"logs/attempt-{attempt}.jsonl").write_text("".join(lines))


def test_a_resumed_run_adds_to_what_its_attempts_have_cost(tmp_path: Path) -> None:
    assert spent(tmp_path) == {}
    journal(tmp_path, 1, {cost.HOURS: 1.0, cost.GPU_HOURS: 2.0, cost.DOLLARS: 5.0}, {"timing_s/step": 1.0})
    journal(tmp_path, 2, {cost.HOURS: 1.5, cost.GPU_HOURS: 3.0, cost.DOLLARS: 7.5, cost.STEP_GPU_S: 9.0})
    journal(tmp_path, 3)
    before = spent(tmp_path)
    assert before == {cost.HOURS: 1.5, cost.GPU_HOURS: 3.0, cost.DOLLARS: 7.5}
    total = Meter(2, 2.5, began=100.0, before=before).total(3700.0)
    assert total == pytest.approx({cost.HOURS: 2.5, cost.GPU_HOURS: 5.0, cost.DOLLARS: 12.5})


def test_a_cost_in_words() -> None:
    assert cost.in_words({}) is None
    assert cost.in_words({cost.HOURS: 1, cost.GPU_HOURS: 3.2, cost.KWH: 1.91}) == "3.2 GPU-hours, 1.91 kWh"
    assert cost.amounts(1234.5, 99.96, None) == "1,234 GPU-hours, 100 kWh"
    assert cost.amounts(4.0, None, 1234.5) == "4 GPU-hours, $1,234.50"
    assert cost.of_one(60.0, 4.2, 0.00123) == "60 GPU-seconds, 4.2 Wh, $0.00123"
