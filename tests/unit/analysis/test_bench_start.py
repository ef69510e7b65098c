from __future__ import annotations

from pathlib import Path

import pytest

from analysis.bench import start
from guidelines_core.runs.start import STAGES

SAID = """\
warning: actor_rollout_ref.actor.ppo_mini_batch_size=24: 120 rollouts are padded; 30 pads nothing
quickstart · MLflow run 2c1d · log /somewhere/attempt-1.log
/site-packages/hydra/_internal/defaults_list.py:251: UserWarning: something
ready after 62 s: preflight 12 s · imports 8 s · Ray 9 s
step 1 of 2 · reward 0.25 · 12.0 s a step · 12 s left
anything that comes later
"""


def test_lines_of_others_are_counted_up_to_the_first_step() -> None:
    (line,) = start.noise(SAID.splitlines())
    assert "hydra" in line
    assert start.noise(SAID.replace("/site-packages/hydra", "warning: hydra=1").splitlines()) == []


def test_a_start_that_fails_is_said_and_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/modelinfos").mkdir()
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "cache"))
    found = start.measured(tmp_path, "no-such-experiment", [])
    assert list(found) == ["first start"]
    assert "exit code 2: no experiment is called 'no-such-experiment'" in found["first start"]["failed"]
    assert found["first start"]["said"] != []
    assert found["first start"]["kept"] == ["modelinfos"]


def test_the_table_has_every_stage_and_start() -> None:
    one = {
        "first_step_begins_s": 62.0,
        "stages": dict.fromkeys(STAGES, 7.7),
        "first_step_done_s": 75.0,
        "first_step_s": 12.0,
        "noise": ["a line"],
    }
    table = start.as_table({"first start": one, "resume": {"failed": "exit code 1: why"}})
    assert table.row_count == len(STAGES) + 4
    assert [column.header for column in table.columns] == ["seconds", "first start", "resume"]
    assert "resume: exit code 1: why" in str(table.caption)
