"""Compares two ways to run the solver's engine: both servers on one machine, a step's solutions from each in turns.

    python -m analysis.bench.engines --name NAME --against key=value [--against key=value …] [--rounds 3] --out FILE \\
        [--logs DIR] [key=value …]

Both servers start at once, as in a run of experiment NAME with the overrides, the second with those of `--against` as
well; on one GPU both must fit, as with `layout=colocated-1`. Every solution is as long as
`guidelines.solver.max_tokens` allows, so random weights do: `reward.reward_model.rollout.load_format=dummy`. In each
round both write all solutions of a step, one after the other, in an order that alternates. The JSON has each round's
seconds, and the ratio of the medians. Exit codes: 0 measured, 1 a server or a request failed, 2 refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from omegaconf import DictConfig

from analysis.bench.server import answered, client_of, free_address, prompts, served, wait_until_ready
from analysis.benchmark import hardware, write
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.hardware.gpus import devices, known_gpu
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.prompts import Message
from guidelines_core.runs.provenance import provenance
from guidelines_core.solver.client import SolverError

ARMS = ("as it is", "against")


def main(arguments: Sequence[str] | None = None) -> int:
    """Start both servers, measure, write and print the figures; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.bench.engines", description="Compare two ways to run the solver's engine."
    )
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument("--against", required=True, action="append", metavar="key=value", help="the second server's")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each (default %(default)s)")
    parser.add_argument("--out", required=True, type=Path, help="the JSON")
    parser.add_argument("--logs", type=Path, help="what the servers say goes to this folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    try:
        configs = {
            arm: with_cache_sizes(compose(options.name, [*options.overrides, *more]), lambda: known_gpu(devices()))
            for arm, more in zip(ARMS, ((), options.against), strict=True)
        }
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder:
            rounds = measure(configs, options.rounds, options.logs or Path(folder))
    except (RuntimeError, SolverError, httpx.HTTPError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    words = ["python", "-m", "analysis.bench.engines", *(sys.argv[1:] if arguments is None else arguments)]
    result = {**hardware(), "versions": provenance(), "command": shlex.join(words), **summary(configs, rounds)}
    write(options.out, result)
    print(json.dumps(result, indent=1))
    return 0


def measure(configs: Mapping[str, DictConfig], rounds: int, logs: Path) -> dict[str, list[float]]:
    """Return each server's seconds for a step's solutions, one for each round.

    Raises:
        RuntimeError: a server ended, or is not ready in time.
        SolverError: a request failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    addresses = {arm: free_address() for arm in configs}
    with ExitStack() as servers:
        started = {
            arm: servers.enter_context(served(config, addresses[arm], logs / f"{arm.replace(' ', '-')}.log"))
            for arm, config in configs.items()
        }
        for arm, server in started.items():
            wait_until_ready(server, addresses[arm])
        return asyncio.run(in_turns(configs, addresses, started, rounds))


async def in_turns(
    configs: Mapping[str, DictConfig],
    addresses: Mapping[str, str],
    servers: Mapping[str, subprocess.Popen[bytes]],
    rounds: int,
) -> dict[str, list[float]]:
    """Return the seconds of each server's steps; each has written a step's solutions before, which does not count."""
    seconds: dict[str, list[float]] = {arm: [] for arm in configs}
    chats = {arm: prompts(requests(config), config) for arm, config in configs.items()}
    for arm, config in configs.items():
        await answered(servers[arm], step(config, addresses[arm], chats[arm]))
    for number in range(rounds):
        for arm in list(configs) if number % 2 == 0 else list(configs)[::-1]:
            seconds[arm].append(await answered(servers[arm], step(configs[arm], addresses[arm], chats[arm])))
            print(f"{arm}: {seconds[arm][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


async def step(config: DictConfig, address: str, chats: Sequence[list[Message]]) -> float:
    """Return the seconds in which the server writes all solutions of a step."""
    settings = config.guidelines.solver
    client = client_of(config, address, len(chats), settings.max_tokens)
    began = time.perf_counter()
    solved = (client.solve(chat, temperature=settings.temperature, samples=settings.samples) for chat in chats)
    await asyncio.gather(*solved)
    return time.perf_counter() - began


def requests(config: DictConfig) -> int:
    """Return the guidelines of a step."""
    return int(config.data.train_batch_size * config.actor_rollout_ref.rollout.n)


def summary(configs: Mapping[str, DictConfig], rounds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return each server's solutions, seconds and ms a token, and how many times faster the second is."""
    arms = []
    for arm, config in configs.items():
        tokens = config.guidelines.solver.max_tokens
        median = statistics.median(rounds[arm])
        arms.append(
            {
                "name": arm,
                "solutions": requests(config) * config.guidelines.solver.samples,
                "tokens_per_solution": tokens,
                "s": [round(each, 2) for each in rounds[arm]],
                "median_s": round(median, 2),
                "ms_per_token": round(1000 * median / tokens, 1),
            }
        )
    first, second = (statistics.median(rounds[arm]) for arm in configs)
    return {"arms": arms, "ratio": round(first / second, 2)}


if __name__ == "__main__":
    sys.exit(main())
