"""The worth of guidelines to a solver that runs elsewhere, over a real HTTP server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig
from rich.console import Console

from analysis.lift import LiftRefused, other_solver
from analysis.lifts.answers import GenerationFailed, Plan
from analysis.lifts.arms import measure
from analysis.lifts.elsewhere import Elsewhere, name_of, solver_of, unfit
from guidelines_core.config.compose import compose
from guidelines_core.data.problems import Problem
from tests.support.solver_server import Server, serving

KEY = "planted-solver-key-51c0"
PROBLEMS = [Problem("2 + 2?", "4", "test"), Problem("2 + 3?", "5", "test"), Problem("1 + 3?", "4", "test")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SOLVER_KEY", KEY)
    with serving() as told:
        yield told


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return compose("quickstart", ["guidelines.solver.deadline_s=20"], environ={})


def at(server: Server) -> Elsewhere:
    return Elsewhere((server.url,), "m", "SOLVER_KEY")


def test_its_answers_are_kept_graded_and_asked_for_once(server: Server, config: DictConfig, tmp_path: Path) -> None:
    plan = Plan(config, {}, [at(server)], 2, tmp_path)
    rows = measure(plan, PROBLEMS, Console(quiet=True))
    # The server always writes 4.
    assert rows.groupby("gold")["correct"].mean().to_dict() == {"4": 1.0, "5": 0.0}
    assert set(rows["solver"]) == {"m"}
    assert rows["solution_cut"].all()
    assert len(rows) == len(server.requests) == 6
    assert len({request["seed"] for request in server.requests}) == 6, "the two samples of a problem differ"
    assert {(request["max_tokens"], request["temperature"]) for request in server.requests} == {(48, 0.8)}
    assert set(server.keys) == {f"Bearer {KEY}"}
    (file,) = tmp_path.glob("solutions-none-*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    again = measure(plan, PROBLEMS, Console(quiet=True))
    assert len(server.requests) == 7
    assert again.equals(rows)
    assert KEY not in file.read_text()


def test_a_prompt_beyond_its_context_has_no_solution_and_another_refusal_ends_it(
    server: Server, config: DictConfig, tmp_path: Path
) -> None:
    plan = Plan(config, {}, [at(server)], 1, tmp_path)
    server.failures, server.said = [400], "This model's maximum context length is 64 tokens."
    rows = measure(plan, PROBLEMS, Console(quiet=True))
    assert "too_long" in set(rows["reason"])
    assert rows["correct"].isna().sum() == 1
    server.failures, server.said = [403], "no"
    with pytest.raises(GenerationFailed, match=r"/v1#m: the solver refused the request: HTTP status 403"):
        measure(Plan(config, {}, [at(server)], 2, tmp_path), PROBLEMS, Console(quiet=True))


def test_the_runs_own_solver_is_asked_where_it_is(config: DictConfig) -> None:
    assert solver_of(config) == config.guidelines.solver.model
    words = ["url=[http://a:1/v1,http://b:2/v1]", "model=Qwen/Qwen2.5-3B", "key_env=SOLVER_KEY"]
    elsewhere = compose("quickstart", ["layout=cpu-train-only", *(f"guidelines.solver.{w}" for w in words)], environ={})
    found = solver_of(elsewhere)
    assert found == Elsewhere(("http://a:1/v1", "http://b:2/v1"), "Qwen/Qwen2.5-3B", "SOLVER_KEY")
    assert name_of(found) == "Qwen2.5-3B"
    assert str(found) == "http://a:1/v1,http://b:2/v1#Qwen/Qwen2.5-3B"


def test_a_solver_is_named_by_url_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_solver("http://a:1/v1#x/y", "K") == Elsewhere(("http://a:1/v1",), "x/y", "K")
    assert other_solver("Qwen/Qwen2.5-3B", None) == "Qwen/Qwen2.5-3B"
    for text, said in (
        ("http://a:1/v1", "no URL of a server; expected URL#MODEL"),
        ("http://a:1/v1#", "no model is named; expected URL#MODEL"),
        ("http://me:hidden@a/v1#m", "user name or password"),
        ("https://a/v1?key=hidden#m", "behind ? or #"),
    ):
        with pytest.raises(LiftRefused) as error:
            other_solver(text, None)
        assert said in str(error.value)
        assert "hidden" not in str(error.value)


def test_servers_that_cannot_answer_are_named_before_anything_is_measured(server: Server, config: DictConfig) -> None:
    assert unfit(at(server), config, 0.0) == []
    asked = json.dumps(server.requests)
    assert '"max_tokens": 1' in asked
    (said,) = unfit(Elsewhere((server.url,), "n", "SOLVER_KEY"), config, 0.0)
    assert f"{server.url} serves m; did you mean m?" in said
    (said,) = unfit(Elsewhere((server.url,), "m", "NO_SUCH_KEY"), config, 0.0)
    assert "NO_SUCH_KEY is not set" in said
