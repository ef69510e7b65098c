"""How a run's end is read from its log."""

from __future__ import annotations

from pathlib import Path

from guidelines_core.trainer import failure_line

LOST = "guidelines_core.solver_watch.SolverLostError: the solver gave no token"


def test_our_own_exception_is_named_and_not_what_others_say_as_they_are_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        f"\x1b[36m(TaskRunner pid=1)\x1b[0m {LOST}\n"
        "\x1b[36m(vLLMHttpServer pid=7)\x1b[0m vllm.v1.engine.exceptions.EngineDeadError: see above\n"
    )
    assert failure_line(log) == LOST
