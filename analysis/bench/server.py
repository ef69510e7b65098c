"""The solver's server alone, as a run of an experiment starts it, for measurements of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
from omegaconf import DictConfig

from guidelines_core.data.word_problems import generate
from guidelines_core.prompts import Message, solver_messages
from guidelines_core.solver.client import Solver

T = TypeVar("T")

TOKENS_PER_WORD = 1.5
"""Of the guideline in each prompt, whose words are taken from other problems."""

READY_WITHIN_S = 420.0


def free_address() -> str:
    """Return a loopback address with a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def served(
    config: DictConfig, address: str, log: Path, profiles: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
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


def prompts(count: int, config: DictConfig) -> list[list[Message]]:
    """Return so many different solver prompts: generated problems, and other problems' words as the guideline.

    A guideline has about as many tokens as the experiment allows, `data.max_response_length`.
    """
    length, style = int(config.data.max_response_length / TOKENS_PER_WORD), config.guidelines.prompts.style
    problems = [problem.question for problem in generate(4 * count, seed=0)]
    words = " ".join(problems).split()
    guidelines = [" ".join(words[start : start + length]) for start in range(0, len(words), 37)]
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
        "--gpu-memory-utilization", rollout.gpu_memory_utilization, "--load-format", rollout.load_format,
    ]  # fmt: skip
    engine = rollout.engine_kwargs.vllm
    if engine.kv_cache_memory_bytes is not None:
        command += ["--kv-cache-memory-bytes", engine.kv_cache_memory_bytes]
    if config.trainer.device == "cuda":
        compilation = {"cudagraph_capture_sizes": list(rollout.cudagraph_capture_sizes)}
        compilation |= json.loads(engine.compilation_config or "{}")
        command += ["--compilation-config", json.dumps(compilation)]
    if rollout.enforce_eager:
        command.append("--enforce-eager")
    if not rollout.enable_chunked_prefill:
        command.append("--no-enable-chunked-prefill")
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
            raise RuntimeError(f"the server ended with exit code {server.returncode}: see its log")
        try:
            if httpx.get(f"http://{address}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"the server was not ready after {READY_WITHIN_S:.0f} s: see its log")


async def answered(server: subprocess.Popen[bytes], work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, which asks the server; the client alone would wait for one that ended.

    Raises:
        RuntimeError: the server ended.
    """
    asking = asyncio.ensure_future(work)
    while not (await asyncio.wait([asking], timeout=0.5))[0]:
        if server.poll() is not None:
            asking.cancel()
            raise RuntimeError(f"the server ended with exit code {server.returncode}: see its log")
    return asking.result()


def client_of(config: DictConfig, address: str, concurrency: int, tokens: int) -> Solver:
    """Return the project's client with so many requests in flight, for solutions of exactly so many tokens."""
    settings = config.guidelines.solver
    return Solver(
        [address], settings.model, max_tokens=tokens, max_concurrency=concurrency, deadline_s=settings.deadline_s,
        step_deadline_s=settings.step_deadline_s, seed=settings.seed, ignore_eos=True,
    )  # fmt: skip
