"""Alarms sent to a server on loopback that refuses, is slow, or is not there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from guidelines_core.launch.alarms import AlarmReporter
from guidelines_core.launch.webhook import TRIES, Webhook
from guidelines_core.runs.journal import STEP

SECRET = "T0/B1/planted-secret"


class Hook:
    """What a webhook's server got, and how it answers: `answers` first, then 204."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.delay_s = 0.0
        self.address = ""


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(found.delay_s)
            assert self.path == f"/{SECRET}"
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_port}/{SECRET}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def test_a_message_goes_out_as_slack_and_as_discord_read_it(hook: Hook) -> None:
    webhook = Webhook(hook.address)
    webhook.send("first")
    webhook.send("second")
    webhook.close()
    assert hook.bodies == [{"text": text, "content": text} for text in ("first", "second")]


def test_a_refused_message_is_tried_again_and_then_dropped_without_its_address(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [503, 429]
    webhook = Webhook(hook.address, pause_s=0.001)
    webhook.send("taken at the third try")
    webhook.close()
    assert len(hook.bodies) == 3
    assert caplog.records == []
    hook.answers = [500] * TRIES
    webhook = Webhook(hook.address, pause_s=0.001)
    webhook.send("lost")
    webhook.send("taken")
    webhook.close()
    assert len(hook.bodies) == 3 + TRIES + 1
    assert [record.getMessage() for record in caplog.records] == [
        f"the webhook did not accept an alarm in {TRIES} tries (status 500): lost"
    ]


@pytest.mark.parametrize("address", [f"http://127.0.0.1:9/{SECRET}", f"http://127.0.0.1:port/{SECRET}"])
def test_an_address_where_nobody_listens_is_said_without_it(address: str, caplog: pytest.LogCaptureFixture) -> None:
    webhook = Webhook(address, pause_s=0.001)
    webhook.send("lost")
    webhook.close()
    (record,) = caplog.records
    assert "did not accept an alarm" in record.getMessage()
    assert SECRET not in record.getMessage()


def reporter(folder: Path, console: Console, environ: dict[str, str]) -> AlarmReporter:
    settings = {"limits": {"nan": {}, "leak": {"steps": 2, "above": 0.2}}, "webhook_env": "ALARMS_URL", "stop_on": []}
    return AlarmReporter(OmegaConf.create({"guidelines": {"alarms": settings}}), "name", folder, console, environ)


def line(step: int, leak: float, loss: float | None = 0.1) -> dict[str, Any]:
    return {"step": step, "data": {STEP: step, "guideline/leak": leak, "actor/loss": loss}}


def test_an_alarm_is_said_once_when_it_begins_and_never_waits_for_the_webhook(hook: Hook, tmp_path: Path) -> None:
    hook.delay_s = 0.5
    console = Console(width=200, record=True)
    found = reporter(tmp_path, console, {"ALARMS_URL": hook.address})
    began = time.monotonic()
    for step, leak in enumerate([0.3, 0.3, 0.3, 0.0, 0.0, 0.3, 0.3], start=1):
        found.take(line(step, leak))
    assert time.monotonic() - began < 0.4
    found.take(line(8, 0.0, loss=None))
    found.close()
    said = console.export_text().splitlines()
    assert said == [
        "alarm leak, step 2: 30% of the guidelines contain the gold answer",
        "alarm leak, step 7: 30% of the guidelines contain the gold answer",
        "alarm nan, step 8: not a number: actor/loss",
    ]
    assert [body["text"] for body in hook.bodies] == [f"name: {text}" for text in said]
    assert [(alarm.name, alarm.first, alarm.last) for alarm in found.alarms] == [
        ("leak", 2, 3), ("leak", 7, 7), ("nan", 8, 8),
    ]  # fmt: skip


def test_a_resumed_run_goes_on_with_what_its_journal_has(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    journal = "".join(json.dumps(line(step, 0.3)) + "\n" for step in (1, 2))
    (tmp_path / "logs/attempt-1.jsonl").write_text(journal)
    console = Console(width=200, record=True)
    found = reporter(tmp_path, console, {})
    found.take(line(3, 0.3))
    assert console.export_text() == ""
    assert [(alarm.first, alarm.last) for alarm in found.alarms] == [(2, 3)]
