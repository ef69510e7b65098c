"""A run whose solver is a vLLM server that somebody else started, with a key, and killed in its third step."""

from __future__ import annotations

import pytest

from guidelines_core.grading.pool import GradingPool
from guidelines_core.runs.checkpoints import last_checkpoint
from tests.e2e.conftest import SOLVER_KEY, SOLVER_STEPS, Elsewhere
from tests.support.tiny_run import PROMPTS, ROLLOUTS, SAMPLES

pytestmark = pytest.mark.e2e


def test_every_rollout_is_graded_by_what_the_server_wrote(elsewhere: Elsewhere) -> None:
    steps = elsewhere.steps()
    assert list(steps)[:SOLVER_STEPS] == list(range(1, SOLVER_STEPS + 1))
    for step in range(1, SOLVER_STEPS + 1):
        assert steps[step]["reward/graded"] == PROMPTS * ROLLOUTS
        assert steps[step]["reward/ungraded"] == 0
        assert steps[step]["solver/servers_left_out"] == 0
        rows = elsewhere.step_rows(step)
        assert len(rows) == PROMPTS * ROLLOUTS * SAMPLES
        with GradingPool() as pool:
            futures = [pool.submit(gold, text) for gold, text in zip(rows["gold"], rows["solution"], strict=True)]
            verdicts = [float(future.result()["math_verify"].correct) for future in futures]
        assert verdicts == rows["acc"].tolist()


def test_the_run_starts_no_solver_of_its_own(elsewhere: Elsewhere) -> None:
    log = (elsewhere.directory / "logs/attempt-1.log").read_text()
    assert "solver server 0" not in log
    assert elsewhere.stored.data.tags["guidelines.solver"] == "tiny-solver"
    assert elsewhere.url in elsewhere.stored.data.tags["mlflow.note.content"]


def test_without_its_solver_it_saves_its_last_step_and_ends_by_name(elsewhere: Elsewhere) -> None:
    assert elsewhere.attempt.exit_code == 1
    assert elsewhere.stored.info.status == "FAILED"
    reason = elsewhere.stored.data.tags["guidelines.end"]
    assert "SolverLostError" in reason
    assert f"within guidelines.solver.restart_within_s=4.0: {elsewhere.url}: ConnectError" in reason
    assert last_checkpoint(elsewhere.directory) == max(elsewhere.steps())


def test_the_key_is_recorded_nowhere(elsewhere: Elsewhere) -> None:
    recorded = f"{elsewhere.stored.data.params} {elsewhere.stored.data.tags} {elsewhere.attempt.output}"
    assert SOLVER_KEY not in recorded
    files = [path for path in elsewhere.directory.parent.rglob("*") if path.is_file() and path.suffix != ".pt"]
    assert "attempt-1.log" in {path.name for path in files}
    assert [path.name for path in files if SOLVER_KEY.encode() in path.read_bytes()] == []
