"""The project's reward manager behind a proxy that spoils the solver's answers, a fault a step.

It takes the project's place in a run's configuration (`reward.reward_manager`). In the folder that the
environment's FAULTS names it writes `arrived`, the number of rollouts so far, and `solver.jsonl`, the solver's real
texts, for a test to compare with what the run stored. Without a file `plan` there, nothing is spoilt; a word in it is
the fault of every step.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response

from guidelines_core.verl_adapter.reward_manager import GuidelineRewardManager

FOLDER = Path(os.environ.get("FAULTS", "."))
ROLLOUTS_A_STEP = 16
OUTAGE_S = 30.0
RAISING = 3
PLAN = {2: "garbage", 3: "empty", 4: "500s", 5: "half", 6: "raises", 7: "grader killed"}
"""The fault of each step; the others have none."""
BUSY = (429, 503)
"""The HTTP statuses of the first answers to each request of a busy solver, which then takes `BUSY_S` seconds."""
BUSY_S = 1.0


class Proxy:
    """Passes requests on to the solver; spoils the first answer to each by the step's fault."""

    def __init__(self, solver: str) -> None:
        self._solver = solver
        plan = FOLDER / "plan"
        self._plan = PLAN if plan.exists() else {}
        self._always = plan.read_text().strip() if plan.exists() else ""
        self._times: Counter[bytes] = Counter()
        self._rollouts = 0
        self._spoilt: set[bytes] = set()
        self._outage_ends = 0.0
        app = FastAPI()
        app.add_api_route("/v1/chat/completions", self._answer, methods=["POST"])
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.01)
        self.address = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        self._client = httpx.AsyncClient(timeout=60)

    @property
    def fault(self) -> str | None:
        return self._always or self._plan.get((self._rollouts - 1) // ROLLOUTS_A_STEP + 1)

    def arrive(self) -> int:
        """Count a rollout and return its number in its step."""
        self._rollouts += 1
        (FOLDER / "arrived").write_text(str(self._rollouts))
        number = (self._rollouts - 1) % ROLLOUTS_A_STEP
        if number == 0 and self.fault == "500s":
            self._outage_ends = time.monotonic() + OUTAGE_S
        if number == 0 and self.fault == "grader killed":
            threading.Thread(target=kill_graders, daemon=True).start()
        return number

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        fault, first = self.fault, body not in self._spoilt
        self._spoilt.add(body)
        if fault == "500s" and time.monotonic() < self._outage_ends:
            return Response("out of order", status_code=500)
        if fault == "busy":
            self._times[body] += 1
            if self._times[body] <= len(BUSY):
                return Response("too many requests", status_code=BUSY[self._times[body] - 1])
            await asyncio.sleep(BUSY_S)
        address = f"http://{self._solver}/v1/chat/completions"
        answer = await self._client.post(address, content=body, headers={"content-type": "application/json"})
        if first and fault == "garbage":
            return Response("<html>\\boxed{1} is the answer</html>")
        if first and fault == "empty":
            return Response("")
        if first and fault == "half":
            # The server closes the connection when it has no more than half of what it announced.
            return Response(answer.content[: len(answer.content) // 2], headers={"content-length": "100000"})
        with (FOLDER / "solver.jsonl").open("a") as log:
            log.write(json.dumps(answer.json()["choices"][0]["message"]["content"]) + "\n")
        return Response(answer.content, status_code=answer.status_code, media_type="application/json")


def kill_graders() -> None:
    """Kill every grading process again and again for two seconds."""
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        for child in psutil.Process().children():
            child.kill()
        time.sleep(0.2)


class FaultyRewardManager(GuidelineRewardManager):
    """Grades rollouts as the project does, with the step's fault."""

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any,
        reward_router_address: str,
        reward_model_tokenizer: Any = None,
    ) -> None:
        self._proxy = Proxy(reward_router_address)
        address = self._proxy.address if (FOLDER / "plan").exists() else reward_router_address
        super().__init__(config, tokenizer, compute_score, address)
        self.compute_score = self._with_fault

    async def _with_fault(self, **rollout: Any) -> dict[str, Any]:
        number = self._proxy.arrive()
        if self._proxy.fault == "raises" and number < RAISING:
            raise ZeroDivisionError("told to fail")
        return await self.scorer.compute_score(**rollout)
