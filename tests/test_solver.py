"""The solver's client against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from guidelines_core.prompts import solver_messages
from guidelines_core.solver import Solver, SolverError


@dataclass
class Server:
    """An OpenAI-style server that answers as it is told."""

    failures: list[int] = field(default_factory=list)
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    address: str = ""

    async def answer(self, request: Request) -> JSONResponse:
        self.requests.append(await request.json())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.delay_s)
        self.in_flight -= 1
        if self.failures:
            return JSONResponse({"error": "told to fail"}, status_code=self.failures.pop(0))
        choice = {"message": {"content": "\\boxed{4}"}, "finish_reason": "length"}
        return JSONResponse({"choices": [choice], "usage": {"completion_tokens": 7}})


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", told.answer, methods=["POST"])
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    told.address = f"127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    yield told
    running.should_exit = True
    thread.join()


def ask(server: Server, count: int = 1, **settings: Any) -> list[Any]:
    async def run() -> list[Any]:
        defaults = {"max_tokens": 32, "max_concurrency": 8, "deadline_s": 5.0, "seed": 0}
        solver = Solver(server.address, "m", **{**defaults, **settings})
        calls = [solver.solve(solver_messages(f"q{i}", "g"), temperature=0.5) for i in range(count)]
        return await asyncio.gather(*calls, return_exceptions=True)

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


def test_server_errors_are_retried(server: Server) -> None:
    server.failures = [500, 503]
    [solution] = ask(server)
    assert solution.tokens == 7
    assert len(server.requests) == 3


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
