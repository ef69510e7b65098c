"""Measures the CPU seconds that the solver's requests and the verdicts cost, whatever GPUs there are.

    python -m analysis.bench.host [--requests 2000] [--pairs tests/support/grading_corpus.tsv] [--out FILE.json]

`request_s`: CPU seconds of a request in the reward worker's client, by requests in flight, against a server on loopback
that answers at once from a process of its own. `grading_s`: CPU seconds of a pair in the grading processes, and
`handing_s` in the process that hands it over. CPU seconds depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import uvicorn

from analysis.bench.grading import read_pairs
from guidelines_core.grading.pool import GradingPool
from guidelines_core.paths import ROOT
from guidelines_core.solver.client import Solver
from guidelines_core.terminal import plain_console

IN_FLIGHT = (32, 128, 512)
WORDS = 600
"""Words of each prompt, and of each solution."""


def main() -> int:
    """Measure, print and write; 0."""
    parser = argparse.ArgumentParser(description="CPU seconds of a request and of a verdict.")
    parser.add_argument("--requests", type=int, default=2000, help="requests each time (default %(default)s)")
    parser.add_argument("--pairs", type=Path, default=ROOT / "tests/support/grading_corpus.tsv")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, too")
    options = parser.parse_args()
    found = {"request_s": requests(options.requests), **grading(options.pairs)}
    plain_console().print_json(json.dumps(found))
    if options.out:
        command = " ".join(["python", "-m", "analysis.bench.host", *sys.argv[1:]])
        options.out.write_text(json.dumps({"command": command, "cpus": os.cpu_count(), **found}, indent=1) + "\n")
    return 0


def requests(count: int) -> dict[str, float]:
    """Return the CPU seconds of a request in the client, by requests in flight."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sender,), daemon=True)
    server.start()
    sender.close()  # so that a server that fails ends the wait
    address = receiver.recv()
    try:
        return {str(each): round(asyncio.run(ask(address, count, each)), 5) for each in IN_FLIGHT}
    finally:
        server.terminate()
        server.join()


def serve(sender: Any) -> None:
    """Answer every request with a solution of `WORDS` words; send the address when ready."""
    answer = {"message": {"content": "word " * WORDS}, "finish_reason": "stop"}
    body = json.dumps({"choices": [answer], "usage": {"completion_tokens": WORDS}}).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    settings = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    running = uvicorn.Server(settings)

    async def run() -> None:
        serving = asyncio.create_task(running.serve())
        while not running.started:
            await asyncio.sleep(0.01)
        sender.send(f"127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}")
        await serving

    asyncio.run(run())


async def ask(address: str, count: int, in_flight: int) -> float:
    """Return the CPU seconds of one of `count` requests, `in_flight` at once."""
    client = Solver([address], "m", max_tokens=WORDS, max_concurrency=in_flight, deadline_s=600, step_deadline_s=600,
                    seed=None)  # fmt: skip

    async def one(number: int) -> None:
        await client.solve([{"role": "user", "content": f"{number} " + "word " * WORDS}], temperature=1.0)

    await one(-1)
    began = time.process_time()
    await asyncio.gather(*map(one, range(count)))
    return (time.process_time() - began) / count


def grading(file: Path) -> dict[str, float | int]:
    """Return the CPU seconds of a pair of `file` in the grading processes and in this one."""
    pairs = list(read_pairs(file))
    with GradingPool(2) as pool:
        for future in [pool.submit("x+1", "$1+x$") for _ in range(8)]:  # every process is up
            future.result()
        before, own = _children_s(), time.process_time()
        for future in [pool.submit(gold, solution) for gold, solution in pairs]:
            future.result()
        spent, own = _children_s() - before, time.process_time() - own
    return {"pairs": len(pairs), "grading_s": round(spent / len(pairs), 5), "handing_s": round(own / len(pairs), 5)}


def _children_s() -> float:
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    sys.exit(main())
