"""The reward function against a real HTTP server that stands for the solver, and the real grader."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from guidelines_core.reward import score as reward
from guidelines_core.reward.metrics import count_metrics
from tests.support.solver_server import Server, serving, whole

SOLVER = {
    "model": "m",
    "max_tokens": 32,
    "max_concurrency": 6,
    "deadline_s": 2.0,
    "step_deadline_s": 9.0,
    "seed": 0,
    "ignore_eos": False,
    "temperature": 0.7,
    "val_temperature": 0.0,
}
GRADER = {"name": "math_verify", "workers": 1, "deadline_s": 5.0, "memory_mb": 1024, "leak": "flag"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as told:
        yield told


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Give each test a process that has graded nothing yet."""

    def forget() -> None:
        reward._solver, reward._addresses = None, None
        reward.ungraded.clear()

    forget()
    yield
    forget()


def score(address: str, gold: str = "4", split: str = "train", workers: int = 1) -> Any:
    return reward.compute_score(
        "test",
        "Add the numbers.",
        gold,
        {"question": "What is 2 + 2?", "problem_id": "p1", "split": split},
        address,
        solver=SOLVER,
        grader=GRADER,
        prompts={"style": "instruct"},
        workers=workers,
    )


def test_a_rollout_gets_the_graders_word_and_how_it_was_sampled(server: Server) -> None:
    row = asyncio.run(score(server.address))
    assert (row["score"], row["reason"], row["math_verify_correct"]) == (1.0, "correct", 1.0)
    assert row["solver_sampling"] == f"temperature 0.7, seed {server.requests[0]['seed']}, at most 32 tokens"


def test_validation_is_greedy(server: Server) -> None:
    assert asyncio.run(score(server.address, split="val"))["solver_sampling"].startswith("temperature 0, seed ")
    assert server.requests[0]["temperature"] == 0.0


def test_no_answer_is_no_reward_and_is_counted(server: Server) -> None:
    server.bodies = [whole(finish_reason="abort")] * 20
    with pytest.raises(reward.RewardUnavailable, match=r"deadline_s=2.0"):
        asyncio.run(score(server.address))
    counts = reward.take_counts()
    assert counts["ungraded_solver_error"] == 1
    assert counts["retries"] > 0
    assert reward.take_counts()["ungraded_solver_error"] == 0


def test_workers_share_the_places_at_the_solver_fairly(server: Server) -> None:
    server.delay_s = 0.1

    async def many() -> None:
        await asyncio.gather(*(score(server.address, gold=str(n), workers=3, split="val") for n in range(2)))
        client = reward.solver_client(server.address, SOLVER, workers=3)
        await asyncio.gather(*(client.solve([{"role": "user", "content": str(n)}], temperature=0.0) for n in range(9)))

    asyncio.run(many())
    assert server.most_in_flight == 2


def test_an_address_that_changed_before_the_first_request_counts(server: Server) -> None:
    reward.relocate([server.address])
    assert asyncio.run(score("127.0.0.1:9"))["score"] == 1.0


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
