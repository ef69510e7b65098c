"""The reward against a real HTTP server that stands for the solver, and the real grader."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from guidelines_core.config.layout import requests_in_flight
from guidelines_core.reward.metrics import count_metrics
from guidelines_core.reward.row import GradedRow, load
from guidelines_core.reward.score import RewardUnavailable, Scorer
from tests.support.solver_server import Server, serving, several, whole

SOLVER = {
    "model": "m",
    "max_tokens": 32,
    "max_concurrency": 6,
    "deadline_s": 2.0,
    "step_deadline_s": 9.0,
    "seed": 0,
    "ignore_eos": False,
    "samples": 1,
    "temperature": 0.7,
    "val_max_tokens": 96,
    "val_samples": 1,
    "val_temperature": 0.0,
}
GRADER = {"name": "math_verify", "workers": 1, "deadline_s": 5.0, "memory_mb": 1024, "leak": "flag"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as told:
        yield told


def scorer(address: str, workers: int = 1, samples: int = 1, leak: str = "flag") -> Scorer:
    solver, grader = {**SOLVER, "samples": samples}, {**GRADER, "leak": leak}
    return Scorer([address], solver=solver, grader=grader, prompts={"style": "instruct"}, workers=workers)


def score(by: Scorer, gold: str = "4", split: str = "train", guideline: str = "Add the numbers.") -> Any:
    return by.compute_score("test", guideline, gold, {"question": "What is 2 + 2?", "problem_id": "p1", "split": split})


def rows_of(result: Any) -> list[GradedRow]:
    return load(result["graded"])


def test_a_rollout_gets_the_graders_word_and_how_it_was_sampled(server: Server) -> None:
    result = asyncio.run(score(scorer(server.address)))
    [row] = rows_of(result)
    assert (result["score"], result["acc"], row.score, row.reason) == (1.0, 1.0, 1.0, "correct")
    assert row.correct == {"math_verify": 1.0, "exact_match": 1.0}
    assert row.solver_sampling == f"temperature 0.7, seed {server.requests[0]['seed']}, at most 32 tokens"
    assert "n" not in server.requests[0]


def test_validation_is_greedy_and_has_a_length_of_its_own(server: Server) -> None:
    [row] = rows_of(asyncio.run(score(scorer(server.address, samples=4), split="val")))
    assert row.solver_sampling.startswith("temperature 0, seed ")
    assert row.solver_sampling.endswith(", at most 96 tokens")
    assert server.requests[0]["temperature"] == 0.0
    assert server.requests[0]["max_tokens"] == 96


def test_the_reward_of_several_solutions_is_the_share_that_is_right(server: Server) -> None:
    server.bodies = [several("\\boxed{4}", "no box", "\\boxed{5}", "\\boxed{4.0}")]
    result = asyncio.run(score(scorer(server.address, samples=4)))
    assert [request["n"] for request in server.requests] == [4]
    assert (result["score"], result["acc"]) == (0.5, 0.5)
    rows = rows_of(result)
    assert [(row.sample, row.solution, row.acc, row.reason) for row in rows] == [
        (0, "\\boxed{4}", 1.0, "correct"),
        (1, "no box", 0.0, "no_answer"),
        (2, "\\boxed{5}", 0.0, "wrong"),
        (3, "\\boxed{4.0}", 1.0, "correct"),
    ]
    assert [row.correct["exact_match"] for row in rows] == [1.0, 0.0, 0.0, 0.0]
    assert {row.score for row in rows} == {0.5}


@pytest.mark.parametrize(("leak", "reward_given"), [("flag", 0.5), ("zero", 0.0)])
def test_a_leak_costs_the_whole_reward_only_where_the_policy_says_so(
    server: Server, leak: str, reward_given: float
) -> None:
    server.bodies = [several("\\boxed{4}", "\\boxed{5}")]
    result = asyncio.run(score(scorer(server.address, samples=2, leak=leak), guideline="The answer is 4."))
    assert (result["score"], result["acc"]) == (reward_given, 0.5)
    assert [(row.score, row.acc, row.guideline_leak) for row in rows_of(result)] == [
        (reward_given, 1.0, 1.0),
        (reward_given, 0.0, 1.0),
    ]


def test_fewer_solutions_than_asked_for_are_asked_again(server: Server) -> None:
    server.bodies = [several("\\boxed{5}")]
    by = scorer(server.address, samples=3)
    assert asyncio.run(score(by))["score"] == 1.0
    assert by.take_counts()["retries"] == 1


def test_no_answer_is_no_reward_and_is_counted(server: Server) -> None:
    server.bodies = [whole(finish_reason="abort")] * 20
    by = scorer(server.address)
    with pytest.raises(RewardUnavailable, match=r"deadline_s=2.0"):
        asyncio.run(score(by))
    assert by.first_failure is not None
    assert "the first failed: GarbledError: 1 of 1 answers with finish_reason='abort'" in by.first_failure
    counts = by.take_counts()
    assert counts["ungraded_solver_error"] == 1
    assert by.first_failure is None
    assert counts["retries"] > 0
    assert by.take_counts()["ungraded_solver_error"] == 0


def test_two_scorers_share_nothing(server: Server) -> None:
    one, other = scorer(server.address), scorer(server.address)
    asyncio.run(score(one))
    assert (one.take_counts()["asked"], other.take_counts()["asked"]) == (1, 0)


def test_workers_share_the_places_at_the_solver_fairly(server: Server) -> None:
    server.delay_s = 0.1
    client = scorer(server.address, workers=3).client

    async def many() -> None:
        await asyncio.gather(*(client.solve([{"role": "user", "content": str(n)}], temperature=0.0) for n in range(9)))

    asyncio.run(many())
    assert server.most_in_flight == 2


@pytest.mark.parametrize("workers", [1, 3, 4, 6])
def test_as_many_requests_are_in_flight_as_the_estimate_says(server: Server, workers: int) -> None:
    settings = {"guidelines": {"solver": SOLVER}, "reward": {"num_workers": workers}}
    one = scorer(server.address, workers).client
    assert one._places._value * workers == requests_in_flight(OmegaConf.create(settings))


def test_a_new_solver_client_asks_at_the_new_address_and_knows_no_answer(server: Server) -> None:
    by = scorer("127.0.0.1:9")
    by.relocate([server.address])

    async def twice() -> None:
        assert (await score(by))["score"] == 1.0
        by.set_solver({**SOLVER, "max_tokens": 16}, workers=1)
        assert (await score(by))["score"] == 1.0

    asyncio.run(twice())
    assert [request["max_tokens"] for request in server.requests] == [32, 16]


def test_counts_become_metrics() -> None:
    counts = Counter({"asked": 6, "cache_hits": 2, "retries": 3, "ungraded_timeout": 1, "most_in_flight": 4})
    assert count_metrics(counts) == {
        "reward/ungraded": 1.0,
        "reward/ungraded_timeout": 1.0,
        "solver/asked": 6.0,
        "solver/retries": 3.0,
        "solver/cache_hits": 0.25,
        "solver/most_in_flight": 4.0,
    }
    assert count_metrics(Counter())["solver/cache_hits"] == 0.0
