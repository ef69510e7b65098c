from __future__ import annotations

import time
from pathlib import Path

import pytest

from guidelines_core.runs.start import METRIC, STAGES, STAGES_PATH, Start, ended_stages, start_line


def test_stages_add_up_to_the_time_since_the_launch() -> None:
    start = Start(time.time() - 10)
    start.ends("preflight")
    time.sleep(0.02)
    start.ends("imports")
    metrics = start.metrics()
    assert 10 <= metrics["start/preflight"] < 11
    assert 0.02 <= metrics["start/imports"] < 1
    assert metrics["start/total"] == metrics["start/preflight"] + metrics["start/imports"]


def test_another_process_goes_on_where_the_first_one_stood() -> None:
    start = Start(time.time() - 5)
    start.ends("preflight")
    there = Start.handed_over(start.environment())
    assert there == start
    there.ends("ray")
    assert list(there.seconds) == ["preflight", "ray"]
    assert start.metrics()["start/total"] <= there.metrics()["start/total"]


def test_a_stage_ends_once() -> None:
    start = Start(time.time() - 5)
    start.ends("models")
    before = dict(start.seconds)
    start.ends("models")
    assert start.seconds == before


def test_a_process_that_was_handed_nothing_starts_from_now() -> None:
    start = Start.handed_over({})
    start.ends("ray")
    assert start.seconds["ray"] < 1


def test_the_line_names_every_stage_in_order() -> None:
    metrics = {f"{METRIC}{stage}": float(number) for number, stage in enumerate(STAGES, start=1)}
    line = start_line({**metrics, "start/total": 36.0})
    assert line is not None
    assert line.startswith("ready after 36 s: preflight 1 s · imports 2 s · Ray 3 s")
    places = [line.index(name) for name in STAGES.values()]
    assert places == sorted(places)
    assert start_line({"reward/mean": 0.5}) is None


def test_every_process_notes_the_stages_that_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = tmp_path / "stages"
    assert ended_stages(noted) == set()
    monkeypatch.setenv(STAGES_PATH, str(noted))
    start = Start(time.time())
    start.ends("preflight")
    Start.handed_over(start.environment()).ends("ray")
    assert ended_stages(noted) == {"preflight", "ray"}
