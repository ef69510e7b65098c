"""How a run's end is read from its log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from guidelines_core import trainer
from guidelines_core.trainer import failure_line, is_full

LOST = "guidelines_core.solver_watch.SolverLostError: the solver gave no token"


def test_our_own_exception_is_named_and_not_what_others_say_as_they_are_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        f"\x1b[36m(TaskRunner pid=1)\x1b[0m {LOST}\n"
        "\x1b[36m(vLLMHttpServer pid=7)\x1b[0m vllm.v1.engine.exceptions.EngineDeadError: see above\n"
    )
    assert failure_line(log) == LOST


def test_a_disk_is_full_when_a_checkpoint_has_no_room_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_full(tmp_path)
    monkeypatch.setattr(trainer, "FULL_BYTES", shutil.disk_usage(tmp_path).total + 1)
    assert is_full(tmp_path)
    assert not is_full(tmp_path / "gone")
