"""Measures the seconds for a step's solutions: one request after the other, as in the reference run, and all at once.

    python -m analysis.bench.solver --name NAME --out FILE [--sample 6] [--log FILE] [--profile DIR] [key=value …]

Starts vLLM's server once with the solver of experiment NAME and asks it through the project's own client. One after the
other is measured on a sample and extrapolated to the step's requests; the JSON says so. Every solution is as long as
`guidelines.solver.max_tokens` allows. --profile writes the first `PROFILED_TOKENS` of all solutions once more, at once,
under torch's profiler; DIR/profiler_out_0.txt is its table of operations and kernels. Exit codes: 0 measured, 1 the
server or a request failed, 2 refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from omegaconf import DictConfig

from analysis.bench.server import READY_WITHIN_S, answered, client_of, free_address, prompts, served, wait_until_ready
from analysis.benchmark import hardware, write
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.hardware.gpus import devices, known_gpu
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.prompts import Message
from guidelines_core.runs.provenance import provenance
from guidelines_core.solver.client import SolverError

PROFILED_TOKENS = 32
"""Tokens of each solution under the profiler: few, since its trace grows with every operation."""


def main() -> int:
    """Start the server, measure both ways, write and print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description="Time a step's solver requests one by one and all at once.")
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument("--out", required=True, type=Path, help="the JSON")
    parser.add_argument(
        "--sample", type=int, default=6, help="requests asked one after the other (default %(default)s)"
    )
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="what the server says goes here")
    parser.add_argument("--profile", type=Path, help="write what torch's profiler sees of the engine to this folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    try:
        config = with_cache_sizes(compose(options.name, options.overrides), lambda: known_gpu(devices()))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    requests = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    chats = prompts(requests + options.sample + 1, config)
    address = free_address()
    began = time.monotonic()
    try:
        with served(config, address, options.log, options.profile) as server:
            wait_until_ready(server, address)
            start_s = time.monotonic() - began
            arms = asyncio.run(answered(server, ask(config, address, chats, options.sample)))
            result = {
                **hardware(),
                "versions": provenance(),
                "command": shlex.join(["python", "-m", "analysis.bench.solver", *sys.argv[1:]]),
                "requests": requests,
                "max_tokens": config.guidelines.solver.max_tokens,
                "server_start_s": round(start_s, 1),
                "arms": arms,
                "ratio": round(arms[0]["s_per_step"] / arms[1]["s_per_step"], 1),
            }
            write(options.out, result)
            print(json.dumps(result, indent=1))
            if options.profile:
                asyncio.run(answered(server, profile(config, address, chats[:requests])))
    except (RuntimeError, SolverError, httpx.HTTPError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


async def profile(config: DictConfig, address: str, chats: list[list[Message]]) -> None:
    """Ask for the beginning of each solution, all at once, under the server's profiler."""
    solver = client_of(config, address, len(chats), PROFILED_TOKENS)
    async with httpx.AsyncClient(timeout=READY_WITHIN_S) as server:
        (await server.post(f"http://{address}/start_profile")).raise_for_status()
        settings = config.guidelines.solver
        asked = {"temperature": settings.temperature, "samples": settings.samples}
        await asyncio.gather(*(solver.solve(chat, **asked) for chat in chats))
        (await server.post(f"http://{address}/stop_profile")).raise_for_status()


async def ask(config: DictConfig, address: str, chats: list[list[Message]], sample: int) -> list[dict[str, Any]]:
    """Return the figures of asking one after the other and all at once; the last prompt warms up."""
    settings = config.guidelines.solver
    requests = len(chats) - sample - 1
    arms: list[dict[str, Any]] = []

    await client_of(config, address, 1, settings.max_tokens).solve(chats[-1], temperature=settings.temperature)
    for name, concurrency, asked in (("sequential", 1, chats[:sample]), ("in-flight", requests, chats[sample:-1])):
        solver = client_of(config, address, concurrency, settings.max_tokens)
        began = time.perf_counter()
        solved = (solver.solve(chat, temperature=settings.temperature, samples=settings.samples) for chat in asked)
        solutions = await asyncio.gather(*solved)
        seconds = time.perf_counter() - began
        tokens = [solution.tokens for of_request in solutions for solution in of_request]
        arms.append(
            {
                "name": name,
                "in_flight": concurrency,
                "requests": len(asked),
                "s": round(seconds, 2),
                "s_per_step": round(seconds / len(asked) * requests, 2),
                "extrapolated": len(asked) < requests,
                "tokens_per_solution": statistics.fmean(tokens),
                "tokens_per_s": round(sum(tokens) / seconds),
            }
        )
    return arms


if __name__ == "__main__":
    sys.exit(main())
