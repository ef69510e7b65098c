"""An OpenAI-style server on loopback whose answers a test chooses."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response


@dataclass
class Server:
    """An OpenAI-style server that answers as it is told.

    Attributes:
        failures: the statuses of the next answers; `headers` come with them, and what is `said`.
        echo_key: whether a failure repeats the key that it got.
        models, models_status: what `/v1/models` lists, and its status.
        arrivals: when each request came, in s of `time.monotonic`.
    """

    failures: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    said: str = "told to fail"
    echo_key: bool = False
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "m"}])
    models_status: int = 200
    arrivals: list[float] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    address: str = ""

    async def answer(self, request: Request) -> Response:
        asked = await request.json()
        self.requests.append(asked)
        self.arrivals.append(time.monotonic())
        self.keys.append(request.headers.get("authorization"))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.delay_s)
        self.in_flight -= 1
        if self.bodies:
            return Response(self.bodies.pop(0), media_type="application/json")
        if self.failures:
            said = {"error": self.said} | ({"key": self.keys[-1]} if self.echo_key else {})
            return JSONResponse(said, status_code=self.failures.pop(0), headers=self.headers)
        choice = {"message": {"content": "\\boxed{4}"}, "finish_reason": "length"}
        samples = asked.get("n", 1)
        return JSONResponse({"choices": [choice] * samples, "usage": {"completion_tokens": 7 * samples}})

    async def list_models(self) -> Response:
        return JSONResponse({"object": "list", "data": self.models}, status_code=self.models_status)

    @property
    def url(self) -> str:
        """The URL of the server as one elsewhere."""
        return f"http://{self.address}/v1"


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server that is told what to answer, on a free port of loopback."""
    told = Server()
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", told.answer, methods=["POST"])
    app.add_api_route("/v1/models", told.list_models, methods=["GET"])
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    told.address = f"127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    yield told
    running.should_exit = True
    thread.join()


def whole(**changed: Any) -> str:
    choice = {"message": {"content": "\\boxed{5}"}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice | changed], "usage": {"completion_tokens": 3}})


def several(*texts: str) -> str:
    """Return a whole answer to a request for several solutions."""
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
    return json.dumps({"choices": choices, "usage": {"completion_tokens": 3 * len(texts)}})
