"""A run whose solver is a vLLM server that somebody else started, with a key, and killed in its third step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from guidelines_core.grading.pool import GradingPool
from guidelines_core.runs.checkpoints import last_checkpoint
from tests.support.tiny_run import PROMPTS, ROLLOUTS, SAMPLES, Attempt, Run, done, start, store
from tests.support.vllm_server import vllm_server

pytestmark = pytest.mark.e2e

KEY = "planted-solver-key-51c0"
BEFORE = 2
"""The steps with the server."""


@dataclass(frozen=True)
class Bereft(Run):
    """The run, its only start, and the URL of its solver."""

    attempt: Attempt
    url: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bereft]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with vllm_server(folder, KEY) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLVER_KEY", KEY)

        def killed_after_its_steps() -> bool:
            if done(folder / "run", BEFORE):
                server.kill()
            return False

        attempt = start(
            folder,
            "layout=cpu-train-only",
            f"guidelines.solver.url={server.url}",
            f"guidelines.solver.model={server.model}",
            "guidelines.solver.key_env=SOLVER_KEY",
            "guidelines.solver.restart_within_s=4",
            "trainer.save_freq=4",
            "trainer.test_freq=-1",
            stop_when=killed_after_its_steps,
        )
        yield Bereft(folder / "run", store(folder), attempt, server.url)


def test_every_rollout_is_graded_by_what_the_server_wrote(run: Bereft) -> None:
    steps = run.steps()
    assert list(steps)[:BEFORE] == list(range(1, BEFORE + 1))
    for step in range(1, BEFORE + 1):
        assert steps[step]["reward/graded"] == PROMPTS * ROLLOUTS
        assert steps[step]["reward/ungraded"] == 0
        assert steps[step]["solver/servers_left_out"] == 0
        rows = run.step_rows(step)
        assert len(rows) == PROMPTS * ROLLOUTS * SAMPLES
        with GradingPool() as pool:
            futures = [pool.submit(gold, text) for gold, text in zip(rows["gold"], rows["solution"], strict=True)]
            verdicts = [float(future.result()["math_verify"].correct) for future in futures]
        assert verdicts == rows["acc"].tolist()


def test_the_run_starts_no_solver_of_its_own(run: Bereft) -> None:
    log = (run.directory / "logs/attempt-1.log").read_text()
    assert "solver server 0" not in log
    assert run.stored.data.tags["guidelines.solver"] == "tiny-solver"
    assert run.url in run.stored.data.tags["mlflow.note.content"]


def test_without_its_solver_it_saves_its_last_step_and_ends_by_name(run: Bereft) -> None:
    assert run.attempt.exit_code == 1
    assert run.stored.info.status == "FAILED"
    reason = run.stored.data.tags["guidelines.end"]
    assert "SolverLostError" in reason
    assert f"within guidelines.solver.restart_within_s=4.0: {run.url}: ConnectError" in reason
    assert last_checkpoint(run.directory) == max(run.steps())


def test_the_key_is_recorded_nowhere(run: Bereft) -> None:
    recorded = f"{run.stored.data.params} {run.stored.data.tags} {run.attempt.output}"
    assert KEY not in recorded
    files = [path for path in run.directory.parent.rglob("*") if path.is_file() and path.suffix != ".pt"]
    assert "attempt-1.log" in {path.name for path in files}
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []
