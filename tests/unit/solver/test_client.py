"""The solver's client against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from guidelines_core.prompts import solver_messages
from guidelines_core.solver import client as solver_module
from guidelines_core.solver.client import Solver, SolverError
from guidelines_core.solver.probe import no_token
from tests.support.solver_server import Server, serving, several, whole


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as told:
        yield told


def ask(server: Server, count: int = 1, **settings: Any) -> list[Any]:
    async def run() -> list[Any]:
        defaults = {"max_tokens": 32, "max_concurrency": 8, "deadline_s": 5.0, "step_deadline_s": 9.0, "seed": 0}
        solver = Solver([server.address], "m", **{**defaults, **settings})
        calls = [solver.solve(solver_messages(f"q{i}", "g"), temperature=0.5) for i in range(count)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [one if isinstance(one, BaseException) else one[0] for one in found]

    return asyncio.run(run())


def test_an_answer_comes_with_its_length_and_truncation(server: Server) -> None:
    [solution] = ask(server)
    assert (solution.text, solution.tokens, solution.truncated) == ("\\boxed{4}", 7, True)
    assert server.requests[0]["max_tokens"] == 32
    assert server.requests[0]["temperature"] == 0.5


def test_a_fixed_length_is_asked_for_only_where_it_is_wanted(server: Server) -> None:
    ask(server)
    ask(server, ignore_eos=True)
    assert [request.get("ignore_eos") for request in server.requests] == [None, True]


def test_the_environments_proxy_is_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    [solution] = ask(server)
    assert solution.tokens
    assert None is no_token(server.address, "m", within_s=5.0)


def test_server_errors_are_retried(server: Server) -> None:
    server.failures = [500, 503]
    [solution] = ask(server)
    assert solution.tokens == 7
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_server_that_is_too_busy_is_asked_again(server: Server, status: int) -> None:
    server.failures = [status, status]
    assert [solution.text for solution in ask(server)] == ["\\boxed{4}"]
    assert len(server.requests) == 3


def test_a_stampede_at_a_busy_server_is_answered_whole_and_bounded(server: Server) -> None:
    server.failures = [429, 503] * 20
    server.delay_s = 0.02
    solutions = ask(server, 64, max_concurrency=8, deadline_s=60.0, step_deadline_s=120.0)
    assert [solution.text for solution in solutions] == ["\\boxed{4}"] * 64
    assert len(server.requests) == 64 + 40
    assert server.most_in_flight <= 8


def test_a_deadline_names_the_first_failure(server: Server) -> None:
    server.failures = [503, *[429] * 50]
    [error] = ask(server, deadline_s=2.5)
    assert isinstance(error, SolverError)
    assert "the first failed: HTTP status 503, " in str(error)
    assert "told to fail" in str(error)
    assert "deadline_s=2.5" in str(error)


def test_a_refused_request_is_not_retried(server: Server) -> None:
    server.failures = [400, 400]
    [error] = ask(server)
    assert isinstance(error, SolverError)
    assert "told to fail" in str(error)
    assert len(server.requests) == 1


def test_the_deadline_ends_a_call(server: Server) -> None:
    server.delay_s = 3.0
    began = time.monotonic()
    [error] = ask(server, deadline_s=0.5)
    assert isinstance(error, SolverError)
    assert "deadline_s=0.5" in str(error)
    assert time.monotonic() - began < 2


def test_a_server_that_is_gone_is_an_error_and_no_answer() -> None:
    [error] = ask(Server(address="127.0.0.1:9"), deadline_s=1.0)
    assert isinstance(error, SolverError)


def test_calls_are_in_flight_together_up_to_the_bound(server: Server) -> None:
    server.delay_s = 0.2
    ask(server, count=6, max_concurrency=3)
    assert server.most_in_flight == 3
    server.most_in_flight = 0
    ask(server, count=3, max_concurrency=1)
    assert server.most_in_flight == 1


def test_each_request_has_its_own_seed_and_the_same_again_the_same(server: Server) -> None:
    ask(server, count=2)
    ask(server, count=2)
    ask(server, count=1, seed=1)
    seeds = [(r["messages"][0]["content"], r["seed"]) for r in server.requests]
    assert len({seed for _, seed in seeds}) == 3
    assert sorted(seeds[:2]) == sorted(seeds[2:4])


def test_without_a_seed_a_sampled_request_is_asked_each_time_and_a_greedy_one_once(server: Server) -> None:
    async def run() -> Counter[str]:
        solver = Solver(
            [server.address], "m", max_tokens=8, max_concurrency=8, deadline_s=5.0, step_deadline_s=9.0, seed=None
        )
        for temperature in (0.7, 0.7, 0.0, 0.0):
            [solution] = await solver.solve(solver_messages("q", "g"), temperature=temperature)
            assert solution.seed is None
        return solver.counts

    assert asyncio.run(run()) == {"asked": 3, "cache_hits": 1}
    assert [request["temperature"] for request in server.requests] == [0.7, 0.7, 0.0]
    assert not any("seed" in request for request in server.requests)


def test_several_solutions_come_from_one_request(server: Server) -> None:
    server.bodies = [several("a", "b", "c")]

    async def run() -> list[Any]:
        solver = Solver(
            [server.address], "m", max_tokens=8, max_concurrency=8, deadline_s=5.0, step_deadline_s=9.0, seed=0
        )
        return await solver.solve(solver_messages("q", "g"), temperature=0.7, samples=3)

    assert [(solution.text, solution.tokens) for solution in asyncio.run(run())] == [("a", 3), ("b", 3), ("c", 3)]
    assert [request["n"] for request in server.requests] == [3]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>bad gateway</html>",
        "{}",
        "[]",
        "null",
        whole()[:-20],
        whole(finish_reason="abort"),
        whole(finish_reason=None),
        whole(message={"content": 7}),
        several("one", "more"),
        '{"choices": []}',
    ],
)
def test_what_is_no_whole_answer_is_asked_again_and_never_taken(server: Server, body: str) -> None:
    server.bodies = [body]
    [solution] = ask(server)
    assert solution.text == "\\boxed{4}"
    assert len(server.requests) == 2


def test_an_answer_without_text_is_an_answer(server: Server) -> None:
    server.bodies = [whole(message={"content": None})]
    [solution] = ask(server)
    assert (solution.text, solution.tokens, solution.truncated) == ("", 3, False)


def test_half_a_response_is_asked_again() -> None:
    answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + whole().encode()]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = whole().encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(answers.pop() if answers else head.encode() + body)
        await writer.drain()
        writer.close()

    async def run() -> tuple[Any, Counter[str]]:
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        solver = Solver([address], "m", max_tokens=8, max_concurrency=1, deadline_s=5.0, step_deadline_s=5.0, seed=0)
        return await solver.solve(solver_messages("q", "g"), temperature=0.0), solver.counts

    [solution], counts = asyncio.run(run())
    assert solution.text == "\\boxed{5}"
    assert counts == {"asked": 1, "retries": 1}


def test_the_same_request_is_asked_once_while_it_runs_and_after(server: Server) -> None:
    server.delay_s = 0.2

    async def run() -> tuple[list[Any], Counter[str]]:
        solver = Solver(
            [server.address], "m", max_tokens=8, max_concurrency=8, deadline_s=5.0, step_deadline_s=9.0, seed=0
        )
        same = [solver.solve(solver_messages("q", "g"), temperature=0.0) for _ in range(5)]
        found = await asyncio.gather(*same, solver.solve(solver_messages("q", "h"), temperature=0.0))
        found.append(await solver.solve(solver_messages("q", "g"), temperature=0.0))
        await solver.solve(solver_messages("q", "g"), temperature=0.5)
        return found, solver.counts

    found, counts = asyncio.run(run())
    assert len({id(solution) for solution in found}) == 2
    assert len(server.requests) == 3
    assert counts == {"asked": 3, "cache_hits": 5}


def test_what_failed_once_is_asked_anew(server: Server) -> None:
    server.failures = [400]

    async def run() -> Any:
        solver = Solver(
            [server.address], "m", max_tokens=8, max_concurrency=8, deadline_s=5.0, step_deadline_s=9.0, seed=0
        )
        with pytest.raises(SolverError):
            await solver.solve(solver_messages("q", "g"), temperature=0.0)
        return await solver.solve(solver_messages("q", "g"), temperature=0.0)

    assert asyncio.run(run())[0].tokens == 7


def test_only_so_many_answers_are_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_module, "CACHED_REQUESTS", 2)

    async def run() -> int:
        solver = Solver(
            [server.address], "m", max_tokens=8, max_concurrency=8, deadline_s=5.0, step_deadline_s=9.0, seed=0
        )
        for question in ("a", "b", "c", "a", "c"):
            await solver.solve(solver_messages(question, "g"), temperature=0.0)
        return solver.counts["asked"]

    assert asyncio.run(run()) == 4


def test_the_step_has_a_deadline_that_waiting_counts_for(server: Server) -> None:
    server.delay_s = 0.4
    found = ask(server, count=20, max_concurrency=1, step_deadline_s=1.0)
    late = [error for error in found if isinstance(error, SolverError)]
    assert len(late) in (18, 19)  # two fit, on a slow machine one
    assert "step_deadline_s=1.0" in str(late[0])


def test_a_solver_that_is_never_idle_has_the_steps_deadline_for_each_request(server: Server) -> None:
    """A trainer whose rollout has its own GPUs asks for the next batch before the last answers of this one."""

    async def run() -> list[str]:
        solver = Solver(
            [server.address], "m", max_tokens=8, max_concurrency=8, deadline_s=9.0, step_deadline_s=2.0, seed=0
        )
        asked = []
        for number in range(10):
            asked.append(asyncio.ensure_future(solver.solve(solver_messages(f"q{number}", "g"), temperature=0.5)))
            await asyncio.sleep(0.3)
        return [type(found).__name__ for found in await asyncio.gather(*asked, return_exceptions=True)]

    server.delay_s = 0.6
    assert asyncio.run(run()) == ["list"] * 10


def test_a_request_waits_for_its_place_without_losing_its_own_deadline(server: Server) -> None:
    server.delay_s = 0.6
    found = ask(server, count=4, max_concurrency=1, deadline_s=2.0)
    assert [solution.tokens for solution in found] == [7] * 4


def test_requests_go_to_the_server_with_the_fewest_and_follow_one_that_moved(server: Server) -> None:
    async def run() -> Any:
        solver = Solver(
            ["127.0.0.1:9"], "m", max_tokens=8, max_concurrency=8, deadline_s=5.0, step_deadline_s=9.0, seed=0
        )
        asking = asyncio.ensure_future(solver.solve(solver_messages("q", "g"), temperature=0.0))
        await asyncio.sleep(0.3)
        solver.relocate([server.address])
        return await asking

    assert asyncio.run(run())[0].tokens == 7


def test_a_token_is_asked_for_to_see_whether_a_server_lives(server: Server) -> None:
    assert None is no_token(server.address, "m", within_s=2.0)
    assert server.requests[0]["max_tokens"] == 1
    server.failures = [500]
    assert no_token(server.address, "m", within_s=2.0)
    assert no_token("127.0.0.1:9", "m", within_s=2.0)
    server.delay_s = 1.0
    assert no_token(server.address, "m", within_s=0.3)
