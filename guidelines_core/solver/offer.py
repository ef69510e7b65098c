"""Checks whether the servers at some URLs can be the solver, by their lists of models and a request for one token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import httpx
import tenacity

from guidelines_core.solver.response import GarbledError, excerpt, in_words, passing, read
from guidelines_core.solver.servers import CONNECT_S, KeyMissingError, base_url, key_of, network

LIST_S, TOKEN_S = 10.0, 30.0
"""Seconds for a server's list of models, and for its first token, retries included."""

MORE = 256
"""Tokens that the solver's prompt may have beyond the planner's, as in experiments/conf/base.yaml."""

NAMED = 10
"""The largest number of a server's models in a message, the nearest first."""


@dataclass(frozen=True)
class Wanted:
    """The requirements on the servers.

    Attributes:
        urls: the servers.
        model: the name of the solver's model at the servers.
        key_env: the environment variable with their key; None sends no key.
        samples: solutions in one request.
        temperature: the sampling temperature.
        seeded: whether requests have a seed.
        context: tokens of the longest prompt and solution together.
    """

    urls: Sequence[str]
    model: str
    key_env: str | None
    samples: int
    temperature: float
    seeded: bool
    context: int


@dataclass(frozen=True)
class Fault:
    """A reason why the servers cannot be the solver.

    Attributes:
        key: the key of the section `guidelines.solver`.
        value: the key's value, or a URL.
        reason: the fault.
        remedy: what to do.
    """

    key: str
    value: object
    reason: str
    remedy: str


def faults(wanted: Wanted) -> list[Fault]:
    """Return at most one fault for each server; an empty list if they can be the solver."""
    try:
        key = key_of(wanted.key_env)
    except KeyMissingError as error:
        return [Fault("key_env", wanted.key_env, str(error), "export it where the run is started")]
    with ThreadPoolExecutor(len(wanted.urls)) as pool:
        found = pool.map(lambda url: next(_faults(url, wanted, key), None), wanted.urls)
    return [fault for fault in found if fault is not None]


def _faults(url: str, wanted: Wanted, key: str | None) -> Iterator[Fault]:
    """Yield the faults of one server, the most basic first."""
    timeout = httpx.Timeout(LIST_S, connect=min(LIST_S, CONNECT_S))
    with httpx.Client(timeout=timeout, **network([url], key)) as client:
        try:
            listed = client.get(f"{base_url(url)}/models")
        except httpx.HTTPError as error:
            yield Fault("url", url, f"no server answers there: {in_words(error, key)}",
                        "start it, or correct host, port or the environment's proxy")  # fmt: skip
            return
        if listed.status_code in (401, 403):
            yield _refused(url, wanted, listed, key)
        # A server need not list its models.
        if listed.status_code == 200:
            yield from _model_faults(url, wanted, listed, key)
        try:
            _one_token(client, url, wanted)
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (401, 403):
                yield _refused(url, wanted, error.response, key)
            yield Fault("url", url, f"it writes no token: {in_words(error, key)}", _remedy(url, wanted))
        except (httpx.HTTPError, GarbledError) as error:
            yield Fault("url", url, f"it writes no token: {in_words(error, key)}", _remedy(url, wanted))


def _refused(url: str, wanted: Wanted, response: httpx.Response, key: str | None) -> Fault:
    refused = f"the key in {wanted.key_env}" if wanted.key_env else "requests without a key"
    reason = f"{url} refuses {refused}: HTTP status {response.status_code}, {excerpt(response.text, key)}"
    return Fault("key_env", wanted.key_env, reason, "name the environment variable that holds its key")


def _model_faults(url: str, wanted: Wanted, listed: httpx.Response, key: str | None) -> Iterator[Fault]:
    """Yield a fault if the server does not list the model, or lists it with too short a context."""
    try:
        models: dict[str, Any] = {str(model["id"]): model for model in listed.json()["data"]}
    except (ValueError, LookupError, TypeError):
        yield Fault("url", url, f"its /models is no list of models: {excerpt(listed.text, key)}",
                    "give the URL of an OpenAI-compatible server, such as http://HOST:PORT/v1")  # fmt: skip
        return
    if wanted.model not in models:
        near = get_close_matches(wanted.model, models, n=NAMED, cutoff=0)
        more = f" and {len(models) - len(near)} more" if len(models) > len(near) else ""
        yield Fault("model", wanted.model, f"{url} serves {', '.join(near) or 'no model'}{more}",
                    f"did you mean {near[0]}?" if near else "have it serve the model")  # fmt: skip
        return
    # vLLM's own field.
    context = models[wanted.model].get("max_model_len")
    if isinstance(context, int) and context < wanted.context:
        yield Fault(
            "url",
            url,
            f"it takes {context} tokens, and the longest question, guideline and solution are {wanted.context}",
            f"start it with --max-model-len {wanted.context + MORE}, or lower data.max_prompt_length, "
            "data.max_response_length or guidelines.solver.max_tokens",
        )


def _one_token(client: httpx.Client, url: str, wanted: Wanted) -> None:
    """Request one token as the run requests solutions.

    Raises:
        httpx.HTTPError, GarbledError: the server gives no complete answer.
    """
    request = {
        "model": wanted.model,
        "messages": [{"role": "user", "content": "1"}],
        "max_tokens": 1,
        "temperature": wanted.temperature,
        **({"seed": 0} if wanted.seeded else {}),
        **({"n": wanted.samples} if wanted.samples > 1 else {}),
    }
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(passing),
        stop=tenacity.stop_after_delay(TOKEN_S / 2),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    ):
        with attempt:
            answer = client.post(f"{base_url(url)}/chat/completions", json=request, timeout=TOKEN_S / 2)
            read(answer, seed=None, samples=wanted.samples)


def _remedy(url: str, wanted: Wanted) -> str:
    """Return the remedy for a server that answers but generates no token."""
    ideas = ["look at its log"]
    if not url.rstrip("/").endswith("/v1"):
        ideas.append("end the URL in /v1")
    if wanted.samples > 1:
        ideas.append("give guidelines.solver.samples=1 where it knows no `n`")
    if wanted.seeded:
        ideas.append("give guidelines.solver.seed=null where it knows no `seed`")
    return ", or ".join(ideas)
