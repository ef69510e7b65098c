"""Runs recorded in a real PostgreSQL that is killed and started again while they write."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.runs import replay
from guidelines_core.runs.claim import claim
from guidelines_core.runs.claim_file import ClaimError
from guidelines_core.runs.journal import LOGGED_AT, STEP
from guidelines_core.runs.mlflow_sync import Recorder
from guidelines_core.runs.tracking import Run
from tests.support.postgres import PASSWORD, Server, binaries

PROGRAMS = binaries()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed here (initdb, pg_ctl)")

STEPS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert PROGRAMS is not None
    server = Server(PROGRAMS)
    yield server
    server.remove()


@pytest.fixture
def config(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return OmegaConf.create(
        {
            "trainer": {
                "default_local_dir": str(tmp_path / "name"),
                "experiment_name": "name",
                "project_name": tmp_path.name,
            }
        }
    )


def claimed(config: DictConfig) -> Run:
    run = claim(config, resume=False, new=True)
    (run.directory / "logs").mkdir()
    (run.directory / "rows").mkdir()
    return run


def train(run: Run, steps: range, pause: float = 0.0) -> None:
    """Write a journal as verl's file logger does."""
    for step in steps:
        data = {STEP: step, "actor/loss": step / 7, LOGGED_AT: time.time()}
        with (run.directory / "logs/attempt-1.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "data": data}) + "\n")
        time.sleep(pause)


def losses(run: Run) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in run.client.get_metric_history(run.claim.run_id, "actor/loss"))


def test_two_runs_write_at_once_while_the_server_dies_and_comes_back(server: Server, config: DictConfig) -> None:
    runs = [claimed(config), claimed(config)]
    recorders = [Recorder(run) for run in runs]
    for recorder in recorders:
        recorder.start()
    training = [threading.Thread(target=train, args=(run, range(1, STEPS + 1), 0.1)) for run in runs]
    for thread in training:
        thread.start()
    time.sleep(2)
    server.kill()
    deadline = time.monotonic() + 30
    while not all(recorder.failure for recorder in recorders) and time.monotonic() < deadline:
        time.sleep(0.1)
    failures = [recorder.failure for recorder in recorders]
    server.start()
    for thread in training:
        thread.join()
    for run, recorder in zip(runs, recorders, strict=True):
        recorder.stop()
        assert recorder.failure is None
        assert run.finish("FINISHED", "done", run.directory / "logs/attempt-1.log") is None
        assert losses(run) == [(step, step / 7) for step in range(1, STEPS + 1)]
        assert run.status == "FINISHED"
    assert all(failures), "the store was away while they trained"


def test_replay_brings_a_run_whose_store_was_away_at_its_end(
    server: Server, config: DictConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = claimed(config)
    recorder = Recorder(run)
    train(run, range(1, 3))
    assert recorder.copy()
    server.kill()
    train(run, range(3, 6))
    began = time.monotonic()
    assert not recorder.copy()
    assert run.finish("KILLED", "stopped by SIGTERM", run.directory / "logs/attempt-1.log") is not None
    assert time.monotonic() - began < 10, "a store that is away holds nobody up"
    run.release()
    command = [sys.executable, "-m", "guidelines_core.runs.replay", str(run.directory)]
    began = time.monotonic()
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert time.monotonic() - began < 40, "MLflow alone would try for two minutes"
    assert refused.returncode == 1
    assert PASSWORD not in refused.stdout + refused.stderr
    server.start()
    monkeypatch.setattr(sys, "argv", ["replay", str(run.directory)])
    for _ in range(2):
        assert replay.main() == 0
        assert "KILLED" in capsys.readouterr().out
        assert losses(run) == [(step, step / 7) for step in range(1, 6)]
    assert run.client.get_run(run.claim.run_id).data.tags["guidelines.end"] == "stopped by SIGTERM"


def test_the_password_is_not_written_and_asked_for_when_it_is_missing(
    server: Server, config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = claimed(config)
    assert PASSWORD not in (run.directory / "claim.json").read_text()
    run.release()
    again = claim(config, resume=True, new=False)
    assert again.claim == run.claim
    again.release()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace(f":{PASSWORD}", ""))
    with pytest.raises(ClaimError, match=r"mlflow:\*\*\*@127.*set it to that store, with its password"):
        claim(config, resume=True, new=False)
