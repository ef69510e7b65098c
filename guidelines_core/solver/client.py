"""The client of the solver's servers: asks for solutions concurrently and raises an error when no answer comes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import tenacity

from guidelines_core.digests import text_seed
from guidelines_core.prompts import Message

CONNECT_S = 10.0
"""Seconds to reach a server; a machine that is gone refuses nothing and would keep a request until its deadline."""

TOO_BUSY = (408, 425, 429)
"""HTTP statuses below 500 that ask for the same request later."""

KEPT = 4096
"""Answered requests whose solutions stay cached for repeats."""


class SolverError(RuntimeError):
    """The solver gave no answer: it is gone, refused the request, or a deadline passed."""


class GarbledError(RuntimeError):
    """A response with status 200 holds no complete answer; another try may succeed."""


@dataclass(frozen=True)
class Solution:
    """What the solver wrote.

    Attributes:
        text: the solution.
        tokens: its length in tokens; of a request for several solutions, their mean, since a server counts them
            together.
        truncated: whether it was cut at `max_tokens`.
        seed: the request's seed; vLLM adds 0, 1, … for its solutions (`v1/engine/parallel_sampling.py`). None where
            the server sampled from its own state.
    """

    text: str
    tokens: float
    truncated: bool
    seed: int | None


def passing(error: BaseException) -> bool:
    """Say whether another try can help: a server that fails or is too busy, lost connections, not a refused request."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in TOO_BUSY
    return isinstance(error, (httpx.TransportError, GarbledError))


def in_words(error: BaseException | None) -> str:
    """Return a failure in a few words."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP status {error.response.status_code}, {error.response.text[:200]!r}"
    return f"{type(error).__name__}: {str(error)[:200]}"


def read(response: httpx.Response, seed: int | None, samples: int = 1) -> list[Solution]:
    """Return the `samples` solutions in a chat server's response.

    Raises:
        httpx.HTTPStatusError: the server refused the request or failed.
        GarbledError: the body is no whole answer; also where vLLM broke an answer off ("abort") or gave fewer.
    """
    response.raise_for_status()
    try:
        body = response.json()
        choices = [(choice["message"]["content"], choice["finish_reason"]) for choice in body["choices"]]
        tokens = body["usage"]["completion_tokens"]
    except (ValueError, LookupError, TypeError) as error:
        raise GarbledError(f"{type(error).__name__} in the solver's answer: {response.text[:200]!r}") from error
    whole = all(ended in ("stop", "length") and isinstance(text, str | None) for text, ended in choices)
    if not whole or len(choices) != samples or not isinstance(tokens, int):
        ends = ", ".join(repr(ended) for _, ended in choices)
        raise GarbledError(
            f"{len(choices)} of {samples} answers with finish_reason={ends} from the solver: {response.text[:200]!r}"
        )
    return [
        Solution(text=text or "", tokens=tokens / samples, truncated=ended == "length", seed=seed)
        for text, ended in choices
    ]


class Solver:
    """OpenAI-style chat servers, asked by at most `max_concurrency` requests at a time.

    A request that is the same as one before it, seed included, is asked once; so is not one that is sampled without a
    seed, since its answers differ. Each goes to the server with the fewest
    in flight.

    Args:
        addresses: `host:port` of each server; all have the same weights.
        model: the name that the servers know their model by.
        max_tokens: upper limit of a solution, in tokens.
        max_concurrency: requests in flight; 1 asks one after the other.
        deadline_s: seconds for one solution from when it has a place, retries included.
        step_deadline_s: seconds for all requests that wait together, from the first one's arrival.
        seed: seeds the sampling of each request together with its text; None leaves it to the server.
        ignore_eos: let every solution go on to `max_tokens`.

    Attributes:
        counts: `asked`, `cache_hits` and `retries` since they were last cleared.
        most_in_flight: the most requests at the servers at a time since it was last set to 0.
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
    ) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._deadline_s = deadline_s
        self._step_deadline_s = step_deadline_s
        self._seed = seed
        # vLLM's own parameter, which no other server need know.
        self._fixed_length = {"ignore_eos": True} if ignore_eos else {}
        self._places = asyncio.Semaphore(max_concurrency)
        # The request's deadline is the only one for reading: a long answer sends nothing until it is complete.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=max_concurrency, max_keepalive_connections=max_concurrency),
            # The environment's proxy is for the hub and not for the run's own servers.
            trust_env=False,
        )
        self._in_flight = dict.fromkeys(addresses, 0)
        self._asked: dict[str, asyncio.Task[list[Solution]]] = {}
        self._waiting = 0
        self._step_ends = 0.0
        self.counts: Counter[str] = Counter()
        self.most_in_flight = 0

    def relocate(self, addresses: Sequence[str]) -> None:
        """Ask these servers from now on, retries of requests under way included."""
        self._in_flight = dict.fromkeys(addresses, 0) | {a: n for a, n in self._in_flight.items() if a in addresses}

    async def solve(
        self, messages: list[Message], *, temperature: float, samples: int = 1, max_tokens: int | None = None
    ) -> list[Solution]:
        """Return the solver's `samples` answers to `messages`, from one request, which reads the prompt once.

        Each has at most `max_tokens` tokens, the client's own limit unless given.

        Raises:
            SolverError: no answer came before a deadline, or the server refused the request.
        """
        request = {
            "model": self._model,
            "messages": messages,
            "max_tokens": max_tokens or self._max_tokens,
            "temperature": temperature,
            **({} if self._seed is None else {"seed": request_seed(self._seed, messages)}),
            **({"n": samples} if samples > 1 else {}),
            **self._fixed_length,
        }
        if self._seed is None and temperature > 0:
            self.counts["asked"] += 1
            return await self._answer(request)
        key = json.dumps(request)
        task = self._asked.get(key)
        if task is None:
            self.counts["asked"] += 1
            task = asyncio.ensure_future(self._answer(request))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        else:
            self.counts["cache_hits"] += 1
        return await asyncio.shield(task)

    def _forget(self, key: str, done: asyncio.Task[list[Solution]]) -> None:
        """Keep a request that was answered and drop one that failed, so that the same request is tried again."""
        if done.cancelled() or done.exception() is not None:
            del self._asked[key]
        finished = [old for old, task in self._asked.items() if task.done()]
        for old in finished[: max(0, len(self._asked) - KEPT)]:
            del self._asked[old]

    async def _answer(self, request: dict[str, Any]) -> list[Solution]:
        now = asyncio.get_running_loop().time()
        if self._waiting == 0:
            self._step_ends = now + self._step_deadline_s
        self._waiting += 1
        try:
            return await asyncio.wait_for(self._in_turn(request), self._step_ends - now)
        except asyncio.TimeoutError:
            raise SolverError(
                f"no solution within guidelines.solver.step_deadline_s={self._step_deadline_s} of the step's first "
                "request: is the solver's server alive, or guidelines.solver.max_concurrency low?"
            ) from None
        finally:
            self._waiting -= 1

    async def _in_turn(self, request: dict[str, Any]) -> list[Solution]:
        failures: list[str] = []

        def note(state: tenacity.RetryCallState) -> None:
            self.counts.update(retries=1)
            failures.append(in_words(state.outcome.exception() if state.outcome else None))

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(passing),
            wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=5),
            before_sleep=note,
            reraise=True,
        )
        async with self._places:
            try:
                return await asyncio.wait_for(retrying(self._post, request), self._deadline_s)
            except asyncio.TimeoutError:
                why = f"of {len(failures) + 1} tries the first failed: {failures[0]}" if failures else "no try ended"
                raise SolverError(
                    f"no solution within guidelines.solver.deadline_s={self._deadline_s}: {why}; is the solver's "
                    "server alive?"
                ) from None
            except httpx.HTTPStatusError as error:
                # Built from text: an httpx error holds the request and does not pickle through Ray.
                raise SolverError(f"the solver refused the request: {error.response.text[:500]}") from None

    async def _post(self, request: dict[str, Any]) -> list[Solution]:
        address = min(self._in_flight, key=lambda a: self._in_flight[a])
        self._in_flight[address] += 1
        self.most_in_flight = max(self.most_in_flight, sum(self._in_flight.values()))
        try:
            response = await self._client.post(f"http://{address}/v1/chat/completions", json=request)
        finally:
            # The server may have been replaced meanwhile.
            if address in self._in_flight:
                self._in_flight[address] -= 1
        return read(response, request.get("seed"), request.get("n", 1))


def request_seed(seed: int, messages: list[Message]) -> int:
    """Return the seed, in 32 bits, of the request with these messages."""
    return text_seed(repr((seed, messages)))


def gives_a_token(address: str, model: str, within_s: float) -> bool:
    """Say whether the server at `address` generates one token in time; its port may answer when its engine does not.

    The token is sampled with a seed: on a CPU, vLLM samples a whole batch without seeds when one of its requests has
    none (`TopKTopPSampler.forward_cpu`).
    """
    request = {
        "model": model, "messages": [{"role": "user", "content": "1"}], "max_tokens": 1, "temperature": 1.0, "seed": 0
    }  # fmt: skip
    try:
        timeout = httpx.Timeout(within_s, connect=min(within_s, CONNECT_S))
        read(
            httpx.post(f"http://{address}/v1/chat/completions", json=request, timeout=timeout, trust_env=False), seed=0
        )
    except (httpx.HTTPError, GarbledError):
        return False
    return True
