"""The client of the solver's servers: it requests solutions concurrently and raises an error without an answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import tenacity

from guidelines_core.digests import text_seed
from guidelines_core.prompts import Message
from guidelines_core.solver.response import GarbledError, Solution, in_words, passing, read, retry_after
from guidelines_core.solver.servers import CONNECT_S, Servers, base_url, network, without_key

BACKOFF = tenacity.wait_exponential_jitter(multiplier=0.5, max=5)
"""The wait before another try: 0.5 s, 1 s, 2 s, 4 s, each with up to 1 s of random jitter, then 5 s."""

CACHED_REQUESTS = 4096
"""The number of answered requests whose solutions are cached."""


class SolverError(RuntimeError):
    """The solver gave no answer: it is gone, refused the request, or a deadline passed."""


class RefusedError(SolverError):
    """The solver refused the request; the same request would be refused again."""


class Solver:
    """A client of OpenAI-compatible chat servers with at most `max_concurrency` requests in flight.

    Equal requests, seed included, are sent once and share the answer. Requests that are sampled without a seed are not
    cached, since their answers differ. `Servers` chooses the server of each request.

    Args:
        addresses: `host:port` of each server, or its URL where it is elsewhere; all have the same weights.
        model: the model's name at the servers.
        max_tokens: upper limit of a solution, in tokens.
        max_concurrency: the largest number of requests in flight.
        deadline_s: seconds for one request from when it is among those in flight, retries included.
        step_deadline_s: seconds for a request from when it is asked, its wait for a place in flight included.
        seed: combined with a request's text, the seed of its sampling; None leaves the sampling to the server.
        ignore_eos: generate `max_tokens` for every solution.
        key: the servers' key; it is removed from error messages.

    Attributes:
        counts: `asked`, `cache_hits` and `retries` since they were last cleared.
        most_in_flight: the largest number of requests in flight since it was last set to 0.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        model: str,
        *,
        max_tokens: int,
        max_concurrency: int,
        deadline_s: float,
        step_deadline_s: float,
        seed: int | None,
        ignore_eos: bool = False,
        key: str | None = None,
    ) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._deadline_s = deadline_s
        self._step_deadline_s = step_deadline_s
        self._seed = seed
        # A parameter of vLLM, sent only if it is needed.
        self._fixed_length = {"ignore_eos": True} if ignore_eos else {}
        self._places = asyncio.Semaphore(max_concurrency)
        # No read timeout besides the request's deadline: a server sends nothing until the answer is complete.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=max_concurrency, max_keepalive_connections=max_concurrency),
            **network(addresses, key),
        )
        self._key = key
        self._servers = Servers(addresses)
        self._requests: dict[str, asyncio.Task[list[Solution]]] = {}
        self.counts: Counter[str] = Counter()
        self.most_in_flight = 0

    def relocate(self, addresses: Sequence[str]) -> None:
        """Send all further requests to these servers, including retries of requests under way."""
        self._servers.relocate(addresses)

    async def solve(
        self,
        messages: list[Message],
        *,
        temperature: float,
        samples: int = 1,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Solution]:
        """Return the solver's `samples` answers to `messages`, from one request, which reads the prompt once.

        Each has at most `max_tokens` tokens, the client's own limit unless given. `seed` is that of the sampling, and
        follows from the client's own and the text unless given.

        Raises:
            SolverError: no answer came before a deadline, or the server refused the request.
        """
        if seed is None and self._seed is not None:
            seed = request_seed(self._seed, messages)
        request = {
            "model": self._model,
            "messages": messages,
            "max_tokens": max_tokens or self._max_tokens,
            "temperature": temperature,
            **({} if seed is None else {"seed": seed}),
            **({"n": samples} if samples > 1 else {}),
            **self._fixed_length,
        }
        if seed is None and temperature > 0:
            self.counts["asked"] += 1
            return await self._answer(request)
        key = json.dumps(request)
        task = self._requests.get(key)
        if task is None:
            self.counts["asked"] += 1
            task = asyncio.ensure_future(self._answer(request))
            self._requests[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        else:
            self.counts["cache_hits"] += 1
        return await asyncio.shield(task)

    def _forget(self, key: str, done: asyncio.Task[list[Solution]]) -> None:
        """Drop a failed request from the cache, so that it is sent again, and old answers beyond `CACHED_REQUESTS`."""
        if done.cancelled() or done.exception() is not None:
            del self._requests[key]
        finished = [old for old, task in self._requests.items() if task.done()]
        for old in finished[: max(0, len(self._requests) - CACHED_REQUESTS)]:
            del self._requests[old]

    async def _answer(self, request: dict[str, Any]) -> list[Solution]:
        """Return the solutions to a request within the step's deadline.

        It counts from each request: a trainer whose rollout has its own GPUs asks for the next batch before the last
        answers of this one, so a step has no first request.
        """
        try:
            return await asyncio.wait_for(self._in_turn(request), self._step_deadline_s)
        except asyncio.TimeoutError:
            raise SolverError(
                f"no solution within guidelines.solver.step_deadline_s={self._step_deadline_s}, the wait for a place "
                "in flight included: is the solver's server alive, or guidelines.solver.max_concurrency low?"
            ) from None

    async def _in_turn(self, request: dict[str, Any]) -> list[Solution]:
        """Return the solutions to a request, retries included, once fewer than `max_concurrency` are in flight."""
        failures: list[str] = []

        def note(state: tenacity.RetryCallState) -> None:
            self.counts.update(retries=1)
            failures.append(in_words(state.outcome.exception() if state.outcome else None, self._key))

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(passing),
            wait=BACKOFF,
            before_sleep=note,
            reraise=True,
        )
        async with self._places:
            try:
                return await asyncio.wait_for(retrying(self._post, request), self._deadline_s)
            except asyncio.TimeoutError:
                why = f"of {len(failures) + 1} tries the first failed: {failures[0]}" if failures else self._silence()
                raise SolverError(
                    f"no solution within guidelines.solver.deadline_s={self._deadline_s}: {why}; is the solver's "
                    "server alive?"
                ) from None
            except httpx.HTTPStatusError as error:
                # Built from text: an httpx error holds the request and does not pickle through Ray.
                said = f"HTTP status {error.response.status_code}, {without_key(error.response.text, self._key)[:500]}"
                raise RefusedError(f"the solver refused the request: {said}") from None

    async def _post(self, request: dict[str, Any]) -> list[Solution]:
        clock = asyncio.get_running_loop().time
        while (pause := self._servers.opens() - clock()) > 0:
            # Not to its end at once: there may be other servers before.
            await asyncio.sleep(min(pause, 1.0))
        address = self._servers.take(clock())
        self.most_in_flight = max(self.most_in_flight, self._servers.in_flight)
        try:
            response = await self._client.post(f"{base_url(address)}/chat/completions", json=request)
            return read(response, request.get("seed"), request.get("n", 1))
        except (httpx.HTTPError, GarbledError) as error:
            asked = retry_after(error.response) if isinstance(error, httpx.HTTPStatusError) else None
            if passing(error):
                self._servers.failed(address, clock(), asked)
            raise
        finally:
            self._servers.give_back(address)

    def _silence(self) -> str:
        """Return why a request had not even one answer, in words."""
        left = self._servers.opens() - asyncio.get_running_loop().time()
        return f"its servers asked for a pause of {left:.0f} s more" if left > 0 else "no try ended"


def request_seed(seed: int, messages: list[Message]) -> int:
    """Return the seed, in 32 bits, of the request with these messages."""
    return text_seed(repr((seed, messages)))
