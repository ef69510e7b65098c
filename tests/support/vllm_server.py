"""A real vLLM server of the tiny random model on a CPU, started by a test."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from guidelines_core.config.compose import compose
from guidelines_core.launch.shared_memory import SHARED
from guidelines_core.models.bundled import ensure_model
from guidelines_core.paths import ROOT

READY_WITHIN_S = 240.0


@dataclass(frozen=True)
class Served:
    """A running server: its URL, the name of its model, and its process."""

    url: str
    model: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill the server and its engine, which would outlive it, and remove their semaphores, unless it has ended."""
        if self.process.poll() is None:
            root = psutil.Process(self.process.pid)
            processes = (root, *root.children(recursive=True))
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
            for process in processes:
                for semaphore in SHARED.glob(f"sem.loky-{process.pid}-*"):
                    semaphore.unlink()


@contextmanager
def vllm_server(folder: Path, key: str, model: str = "tiny-solver") -> Iterator[Served]:
    """Serve models/tiny-random as `model` on loopback to those who have the `key`; its log lies in `folder`."""
    weights = ROOT / "models/tiny-random"
    ensure_model(weights)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", weights, "--served-model-name", model,
        "--host", "127.0.0.1", "--port", port, "--dtype", "float32", "--enforce-eager", "--max-model-len", 1024,
        "--max-num-seqs", 32, "--max-num-batched-tokens", 2048, "--no-enable-chunked-prefill",
        "--distributed-executor-backend", "uni", "--kv-cache-memory-bytes", 134217728,
    ]  # fmt: skip
    own = compose("tiny", environ={}).guidelines.environment
    environment = {**os.environ, **{str(name): str(value) for name, value in own.items()}, "VLLM_API_KEY": key}
    log = folder / "solver.log"
    with log.open("w") as output:
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=output, stderr=output)
    server = Served(f"http://127.0.0.1:{port}/v1", model, process)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
        yield server
    finally:
        server.kill()


def wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return when the server answers; fail with the end of its log if it does not."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(address, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"the server is not ready: {log.read_text()[-3000:]}")
