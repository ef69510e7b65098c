"""An arm of a learning experiment: its end in time, and what is kept of its lift."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis.bench import learning, learning_table
from analysis.lifts.arms import NONE, TRAINED, UNTRAINED
from analysis.lifts.stats import lift


@pytest.fixture
def measured() -> dict[str, Any]:
    """A lift over eight problems: 2 right without a guideline, 3 with the untrained planner's, 6 with the trained."""
    rows = [
        {"solver": "s", "kind": kind, "problem_id": f"p{number}", "sample": 0, "correct": number < right, "reason": "",
         "guideline": "Read." if number < 2 else f"Do {number}.", "leak": kind == TRAINED and number == 0,
         "guideline_tokens": 5, "solution_tokens": 9, "solution_cut": False}
        for kind, right in ((NONE, 2), (UNTRAINED, 3), (TRAINED, 6))
        for number in range(8)
    ]  # fmt: skip
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(lift(pd.DataFrame(rows)))))
    return found


def test_an_arm_says_in_points_what_training_gained(measured: dict[str, Any]) -> None:
    found = learning.summary(measured)
    assert found["problems"] == 8
    assert found["trained_over_untrained"]["points"] == 37.5
    assert found["trained_over_none"]["points"] == 50
    assert found["untrained_over_none"]["points"] == 12.5
    gained = found["trained_over_none"]
    assert gained["low"] < gained["points"] < gained["high"]
    assert found["accuracy"] == {"none": 0.25, "untrained": 0.375, "trained": 0.75}
    assert (found["leak_rate"], found["repeated"]) == (0.125, 0.25)


def test_an_arm_replaces_the_one_of_its_name() -> None:
    first, second, again = ({"name": name, "steps": steps} for name, steps in (("a", 1), ("b", 2), ("a", 3)))
    assert learning.with_arm([first, second], again) == [again, second]
    assert learning.with_arm([first], second) == [first, second]


def test_the_table_has_a_row_for_each_arm_with_intervals(measured: dict[str, Any]) -> None:
    arm = {"name": "k4", "steps": 34, "minutes": 11.5, **learning.summary(measured)}
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(learning_table.table([arm, {**arm, "name": "k1", "leak_rate": None, "trained_over_none": None}]))
    shown = console.export_text()
    assert "…" not in shown
    assert (shown.count("+37.5 ["), shown.count("+50.0 ["), shown.count(" 12.5 │ 25.0 │\n")) == (2, 1, 1)


def test_a_run_that_takes_longer_is_asked_to_finish_its_step(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        "time.sleep(float(sys.argv[1]))\n"
        "sys.exit(7)\n"
    )
    assert learning.train([str(script), "0"], os.environ, 60) == 7
    assert learning.train([str(script), "60"], os.environ, 3) == 130


def test_arms_are_compared_over_the_steps_that_all_have() -> None:
    memory = "actor/perf/max_memory_allocated_gb"
    long, short = (
        [{"step": step, "reward/mean": step / 100, "timing_s/step": 9.0 * (step == 1) + 2, memory: gb + step}
         for step in range(1, steps + 1)]
        for steps, gb in ((30, 10.0), (10, 20.0))
    )  # fmt: skip
    table = learning_table.same_steps([{"name": "long", "curve": long}, {"name": "short", "curve": short}])
    assert table.title == "steps 1 to 10"
    first, long_arm, short_arm = (list(column.cells) for column in table.columns)
    assert dict(zip(first, zip(long_arm, short_arm, strict=True), strict=True)) == {
        "reward of the first 8": ("0.045", "0.045"),
        "reward of the last 8": ("0.065", "0.065"),
        "step, s": ("2.0", "2.0"),
        "actor's peak memory, GiB": ("20.0", "30.0"),
    }


def test_the_means_of_a_window_are_printed_for_each_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"step": step, "reward/mean": float(step), "timing_s/step": 1.0} for step in (1, 2, 3)]
    file = tmp_path / "arms.json"
    file.write_text(
        json.dumps({"arms": [{"name": "one", "steps": 3, "accuracy": {}, "leak_rate": None, "curve": steps}]})
    )
    assert learning_table.main([str(file), "--window", "2"]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = [[cell for cell in line if cell != "│"] for line in printed if line and line[0] == "│"]
    assert ["2", "1.5", "1"] in rows
    assert ["3", "3", "1"] in rows
