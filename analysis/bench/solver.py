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
import contextlib
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from omegaconf import DictConfig

from analysis.benchmark import hardware, write
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.data.word_problems import generate
from guidelines_core.hardware.gpus import devices, known_gpu
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.prompts import Message, solver_messages
from guidelines_core.runs.provenance import provenance
from guidelines_core.solver.client import Solver, SolverError

GUIDELINE_WORDS = 400
"""Words of the guideline in each prompt, taken from other problems: about 600 tokens, as in a measured step."""

READY_WITHIN_S = 420.0

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
    chats = prompts(requests + options.sample + 1, config.guidelines.prompts.style)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    try:
        with served(config, address, options.log, options.profile) as server:
            wait_until_ready(server, address)
            start_s = time.monotonic() - began
            arms = asyncio.run(ask(config, address, chats, options.sample))
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
                asyncio.run(profile(config, address, chats[:requests]))
    except (RuntimeError, SolverError, httpx.HTTPError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def served(config: DictConfig, address: str, log: Path, profiles: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """Start the solver's server, which writes to `log`, and end it with the block."""
    environment = {**os.environ, **{key: str(value) for key, value in config.guidelines.environment.items()}}
    with log.open("w") as lines:
        command = server_command(config, address, profiles)
        server = subprocess.Popen(command, env=environment, stdout=lines, stderr=lines)
        try:
            yield server
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def prompts(count: int, style: str) -> list[list[Message]]:
    """Return so many different solver prompts: generated problems, with other problems' words as the guideline."""
    problems = [problem.question for problem in generate(4 * count, seed=0)]
    words = " ".join(problems).split()
    guidelines = [" ".join(words[start : start + GUIDELINE_WORDS]) for start in range(0, len(words), 37)]
    return [solver_messages(problems[i], guidelines[i % len(guidelines)], style) for i in range(count)]


def server_command(config: DictConfig, address: str, profiles: Path | None) -> list[str]:
    """Return the command that serves the experiment's solver as its run does, and writes profiles to a folder."""
    rollout, solver = config.reward.reward_model.rollout, config.guidelines.solver
    host, port = address.split(":")
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", solver.model, "--host", host,
        "--port", port, "--served-model-name", solver.model, "--dtype", rollout.dtype,
        "--max-model-len", rollout.max_model_len, "--max-num-seqs", rollout.max_num_seqs,
        "--max-num-batched-tokens", rollout.max_num_batched_tokens, "--seed", solver.seed or 0,
        "--gpu-memory-utilization", rollout.gpu_memory_utilization,
    ]  # fmt: skip
    if config.trainer.device == "cuda":
        engine = rollout.engine_kwargs.vllm
        compilation = {"cudagraph_capture_sizes": list(rollout.cudagraph_capture_sizes)}
        compilation |= json.loads(engine.compilation_config or "{}")
        command += ["--compilation-config", json.dumps(compilation)]
        if engine.kv_cache_memory_bytes is not None:
            command += ["--kv-cache-memory-bytes", engine.kv_cache_memory_bytes]
    if rollout.enforce_eager:
        command.append("--enforce-eager")
    if profiles:
        settings = {
            "profiler": "torch",
            "torch_profiler_dir": str(profiles.resolve()),
            "torch_profiler_with_stack": False,
        }
        command += ["--profiler-config", json.dumps(settings)]
    return [str(part) for part in command]


def wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    """Return when the server answers.

    Raises:
        RuntimeError: it ended, or is not ready in `READY_WITHIN_S` seconds.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {server.returncode}: see --log")
        try:
            if httpx.get(f"http://{address}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"the server was not ready after {READY_WITHIN_S:.0f} s: see --log")


def client_of(config: DictConfig, address: str, concurrency: int, tokens: int) -> Solver:
    """Return the project's client with so many requests in flight, for solutions of so many tokens."""
    settings = config.guidelines.solver
    return Solver(
        [address], settings.model, max_tokens=tokens, max_concurrency=concurrency, deadline_s=settings.deadline_s,
        step_deadline_s=settings.step_deadline_s, seed=settings.seed, ignore_eos=True,
    )  # fmt: skip


async def profile(config: DictConfig, address: str, chats: list[list[Message]]) -> None:
    """Ask for the beginning of each solution, all at once, under the server's profiler."""
    solver = client_of(config, address, len(chats), PROFILED_TOKENS)
    async with httpx.AsyncClient(timeout=READY_WITHIN_S) as server:
        (await server.post(f"http://{address}/start_profile")).raise_for_status()
        await asyncio.gather(*(solver.solve(chat, temperature=config.guidelines.solver.temperature) for chat in chats))
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
        solutions = await asyncio.gather(*(solver.solve(chat, temperature=settings.temperature) for chat in asked))
        seconds = time.perf_counter() - began
        tokens = [solution.tokens for [solution] in solutions]
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
