"""Probes a solver's server by a request for one token."""

from __future__ import annotations

import httpx

from guidelines_core.solver.response import TOO_BUSY, GarbledError, in_words, read
from guidelines_core.solver.servers import CONNECT_S, base_url, elsewhere, network


def no_token(address: str, model: str, within_s: float, key: str | None = None) -> str | None:
    """Return why the server at `address` generates no token within `within_s` seconds, None if it does.

    An open port is not enough: the engine behind it may have failed. A server elsewhere that is too busy counts as
    working.

    The token is sampled with a seed: on a CPU, vLLM samples a whole batch without seeds when one of its requests has
    none (`TopKTopPSampler.forward_cpu`).
    """
    request = {
        "model": model, "messages": [{"role": "user", "content": "1"}], "max_tokens": 1, "temperature": 1.0, "seed": 0
    }  # fmt: skip
    timeout = httpx.Timeout(within_s, connect=min(within_s, CONNECT_S))
    try:
        with httpx.Client(timeout=timeout, **network([address], key)) as client:
            read(client.post(f"{base_url(address)}/chat/completions", json=request), seed=0)
    except (httpx.HTTPError, GarbledError) as error:
        busy = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in TOO_BUSY
        return None if busy and elsewhere(address) else in_words(error, key)
    return None
