"""The workload of long-tailed lengths."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.bench.tailed import (
    TailedRewardManager,
    TailedRollout,
    TailedScorer,
    TailedSolver,
    even_requests,
    tailed_length,
)
from analysis.bench.update_batch import MEDIAN_RESPONSE
from analysis.bench.workloads import EVEN_STEPS
from guidelines_core.config.compose import compose
from guidelines_core.solver.response import Solution
from guidelines_core.verl_adapter.rollout import WrittenRollout

CAP = 3072


@given(st.tuples(st.text(), st.integers()), st.integers(1, CAP))
def test_a_length_is_the_keys_own_and_never_above_the_cap(key: tuple[str, int], cap: int) -> None:
    assert 1 <= tailed_length(key, cap) <= cap
    assert tailed_length(key, cap) == min(cap, tailed_length(key, CAP))


def test_the_lengths_have_a_long_tail() -> None:
    lengths = sorted(tailed_length((n,), CAP) for n in range(2000))
    assert statistics.median(lengths) == pytest.approx(MEDIAN_RESPONSE, rel=0.1)
    assert lengths[-1] == CAP
    assert lengths[1800] > 2.5 * MEDIAN_RESPONSE > 10 * lengths[50]


class Noting(TailedSolver):
    """Answers itself and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(
            ["localhost:1"], "m", max_tokens=CAP, max_concurrency=4, deadline_s=1.0, step_deadline_s=1.0, seed=0
        )
        self.requests: list[dict[str, Any]] = []

    async def _answer(self, request: dict[str, Any]) -> list[Solution]:
        self.requests.append(request)
        return []


def test_two_solvers_draw_the_same_lengths_whatever_is_asked() -> None:
    async def lengths(questions: str, limit: int | None) -> list[int]:
        solver = Noting()
        for question in questions:
            await solver.solve([{"role": "user", "content": question}], temperature=0.0, max_tokens=limit)
        return [request["max_tokens"] for request in solver.requests]

    first, second = asyncio.run(lengths("abcdefgh", None)), asyncio.run(lengths("stuvwxyz", None))
    assert first == second
    assert len(set(first)) == len(first)
    assert asyncio.run(lengths("abcdefgh", 300)) == [min(300, length) for length in first]


def test_the_first_solutions_have_one_length() -> None:
    async def lengths(limit: int | None) -> list[int]:
        solver = Noting()
        solver.even = 2
        for question in "abcd":
            await solver.solve([{"role": "user", "content": question}], temperature=1.0, max_tokens=limit)
        return [request["max_tokens"] for request in solver.requests]

    drawn = [tailed_length((n,), CAP) for n in (1, 2)]
    assert asyncio.run(lengths(None)) == [MEDIAN_RESPONSE, MEDIAN_RESPONSE, *drawn]
    assert asyncio.run(lengths(9)) == [9, 9, 9, 9]


@pytest.mark.parametrize(("name", "batches"), [("cpu", 3), ("cpu-split-1p1-shared", 4)])
def test_a_rollout_a_step_ahead_asks_for_one_batch_more_in_the_first_steps(name: str, batches: int) -> None:
    config = compose("quickstart", [f"layout={name}"], environ={})
    assert even_requests(config) == batches * config.data.train_batch_size * config.actor_rollout_ref.rollout.n


def test_a_rollouts_limit_is_that_of_its_problem_and_number() -> None:
    rollout = object.__new__(TailedRollout)
    rollout.response_length = CAP
    problems = [
        {"extra_info": {"problem_id": f"p{n}"}, "session_id": k, "global_steps": EVEN_STEPS + 1}
        for n in "ab"
        for k in "01"
    ]
    limits = [rollout.limit(problem) for problem in problems]
    assert len(set(limits)) == 4
    assert [rollout.limit({**problem, "global_steps": EVEN_STEPS + 2}) for problem in problems] == limits
    assert [rollout.limit({**problem, "global_steps": EVEN_STEPS}) for problem in problems] == [MEDIAN_RESPONSE] * 4


def test_a_rollout_asks_for_its_own_length(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(_self: object, sampling_params: dict[str, Any], _priority: int = 0, **_more: Any) -> Any:
        return sampling_params

    monkeypatch.setattr(WrittenRollout, "run", asked)
    rollout = object.__new__(TailedRollout)
    rollout.response_length = CAP
    problem: dict[str, Any] = {"extra_info": {"problem_id": "p"}, "session_id": "0", "global_steps": EVEN_STEPS + 1}
    drawn = asyncio.run(rollout.run({"temperature": 1.0, "max_tokens": CAP}, **problem))
    assert drawn == {"temperature": 1.0, "max_tokens": rollout.limit(problem)}


def test_what_the_arms_name_is_what_draws() -> None:
    assert TailedRewardManager.scorer_class is TailedScorer
    assert TailedScorer.client_class is TailedSolver
