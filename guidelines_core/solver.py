"""The client of the solver's server: asks for solutions, many at once, and never takes silence for an answer."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

import httpx
import tenacity

from guidelines_core.prompts import Message


class SolverError(RuntimeError):
    """The solver gave no answer: it is gone, refused the request, or the deadline passed."""


@dataclass(frozen=True)
class Solution:
    """What the solver wrote.

    Attributes:
        text: the solution.
        tokens: its length in tokens.
        truncated: whether it was cut at `max_tokens`.
    """

    text: str
    tokens: int
    truncated: bool


def _passing(error: BaseException) -> bool:
    """Say whether another try can help: the server's faults and lost connections, not a refused request."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


class Solver:
    """An OpenAI-style chat server at `address`, asked by at most `max_concurrency` requests at a time.

    Args:
        address: `host:port` of the server or of the router before it.
        model: the name that the server knows its model by.
        max_tokens: upper limit of a solution, in tokens.
        max_concurrency: requests in flight; 1 asks one after the other.
        deadline_s: seconds for one solution, waiting for a place and retries included.
        seed: seeds the sampling of each request together with its text.
        ignore_eos: let every solution go on to `max_tokens`.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        max_tokens: int,
        max_concurrency: int,
        deadline_s: float,
        seed: int,
        ignore_eos: bool = False,
    ) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._deadline_s = deadline_s
        self._seed = seed
        # vLLM's own parameter, which no other server need know.
        self._fixed_length = {"ignore_eos": True} if ignore_eos else {}
        self._places = asyncio.Semaphore(max_concurrency)
        self._client = httpx.AsyncClient(
            base_url=f"http://{address}",
            timeout=deadline_s,
            limits=httpx.Limits(max_connections=max_concurrency, max_keepalive_connections=max_concurrency),
        )

    async def solve(self, messages: list[Message], *, temperature: float) -> Solution:
        """Return the solver's answer to `messages`.

        Raises:
            SolverError: no answer came before the deadline, or the server refused the request.
        """
        text = repr((self._seed, messages))
        request = {
            "model": self._model,
            "messages": messages,
            "max_tokens": self._max_tokens,
            "temperature": temperature,
            "seed": int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"),
            **self._fixed_length,
        }
        try:
            return await asyncio.wait_for(self._ask(request), self._deadline_s)
        except asyncio.TimeoutError as error:
            raise SolverError(
                f"no solution within guidelines.solver.deadline_s={self._deadline_s}: is the solver's server alive?"
            ) from error
        except httpx.HTTPStatusError as error:
            # Built from text: an httpx error holds the request and does not pickle through Ray.
            raise SolverError(f"the solver refused the request: {error.response.text[:500]}") from None

    async def _ask(self, request: dict[str, object]) -> Solution:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_passing),
            wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=10),
            reraise=True,
        )
        async with self._places:
            return await retrying(self._post, request)

    async def _post(self, request: dict[str, object]) -> Solution:
        response = await self._client.post("/v1/chat/completions", json=request)
        response.raise_for_status()
        body = response.json()
        choice = body["choices"][0]
        return Solution(
            text=choice["message"]["content"] or "",
            tokens=body["usage"]["completion_tokens"],
            truncated=choice["finish_reason"] == "length",
        )
