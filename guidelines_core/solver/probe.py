"""Asks a solver's server for one token, to see whether it works."""

from __future__ import annotations

import httpx

from guidelines_core.solver.response import GarbledError, read
from guidelines_core.solver.servers import CONNECT_S, base_url, network


def gives_a_token(address: str, model: str, within_s: float, key: str | None = None) -> bool:
    """Say whether the server at `address` generates one token in time; its port may answer when its engine does not.

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
    except (httpx.HTTPError, GarbledError):
        return False
    return True
