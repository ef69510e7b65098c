"""The transfer of weights: its socket is the run's own on both sides, and an engine that fails ends it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import zmq
from verl.workers.rollout.base import get_rollout_class
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer, vllm_rollout
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from guidelines_core.runs.start import FOLDER
from guidelines_core.verl_adapter import weight_transfer

FIRST_JOB = "01000000"
"""Ray's id of the first job of every cluster."""


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that returns both sides' addresses in a process with these environment variables."""

    def upstream(self: Any, *arguments: Any) -> None:
        self.zmq_handle = f"ipc:///tmp/rl-colocate-zmq-{FIRST_JOB}-replica-0-rank-0.sock"

    monkeypatch.setattr(ServerAdapter, "__init__", upstream)

    def found(folder: Path | None) -> tuple[str, str]:
        monkeypatch.setenv("VERL_RAY_JOB_ID", FIRST_JOB)
        monkeypatch.delenv(FOLDER, raising=False)
        if folder is not None:
            monkeypatch.setenv(FOLDER, str(folder))
        engine = weight_transfer.WorkerExtension.__new__(weight_transfer.WorkerExtension)
        engine.local_rank, engine.model_runner = 0, SimpleNamespace(vllm_config=None)
        return get_rollout_class("vllm")().zmq_handle, engine._get_zmq_handle()

    return found


def test_both_sides_have_one_address_in_the_attempts_folder(addresses: Any, tmp_path: Path) -> None:
    sender, engine = addresses(tmp_path)
    assert sender == engine == f"ipc://{tmp_path}/rl-colocate-zmq-{FIRST_JOB}-replica-0-rank-0.sock"


def test_two_runs_with_the_same_job_id_have_two_addresses(addresses: Any, tmp_path: Path) -> None:
    assert set(addresses(tmp_path / "a")).isdisjoint(addresses(tmp_path / "b"))


def test_in_a_cluster_that_was_there_before_verls_address_stays(addresses: Any) -> None:
    sender, engine = addresses(None)
    assert sender == engine == f"ipc:///tmp/rl-colocate-zmq-{FIRST_JOB}-replica-0-rank-0.sock"


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """An address, and a function that sends weights there while `receiving` is the engine's call."""
    monkeypatch.setattr(weight_transfer, "POLL_MS", 300)
    cpu = SimpleNamespace(synchronize=lambda: None, ipc_collect=lambda: None, empty_cache=lambda: None)
    monkeypatch.setattr(bucketed_weight_transfer, "get_torch_device", lambda: cpu)
    address = f"ipc://{tmp_path}/weights.sock"

    def send(receiving: Future[Any] | None) -> None:
        monkeypatch.setattr(weight_transfer.BucketSender, "receiving", receiving)
        sender = vllm_rollout.BucketedWeightSender(address, bucket_size_mb=1, use_shm=True)
        asyncio.run(sender.async_send_weights(iter([("weight", torch.ones(8))])))

    return address, send


def test_the_engine_gets_the_weights(sending: tuple[str, Any]) -> None:
    address, send = sending
    found: dict[str, torch.Tensor] = {}
    call: Future[Any] = Future()

    def receive() -> None:
        receiver = bucketed_weight_transfer.BucketedWeightReceiver(
            zmq_handle=address, device=torch.device("cpu"), use_shm=True
        )
        receiver.receive_weights(lambda weights, is_last: found.update((name, each.clone()) for name, each in weights))
        call.set_result(None)

    # A thread that the end of this process does not wait for, if the sender fails.
    threading.Thread(target=receive, daemon=True).start()
    send(call)
    call.result(timeout=30)
    assert found["weight"].tolist() == [1.0] * 8


def test_an_engine_that_fails_ends_the_sending_with_its_error(sending: tuple[str, Any]) -> None:
    call: Future[Any] = Future()
    call.set_exception(MemoryError("no memory for the weights"))
    with pytest.raises(MemoryError, match="no memory for the weights"):
        sending[1](call)


def test_an_engine_that_fails_when_it_has_read_ends_the_sending(sending: tuple[str, Any]) -> None:
    address, send = sending
    call: Future[Any] = Future()
    engine: zmq.Socket[bytes]
    with zmq.Context.instance().socket(zmq.REP) as engine:
        engine.connect(address)
        threading.Timer(0.3, call.set_exception, [MemoryError("no memory for the weights")]).start()
        with pytest.raises(MemoryError, match="no memory for the weights"):
            send(call)
        assert engine.poll(1000)


def test_an_engine_that_reads_no_weights_ends_the_sending(sending: tuple[str, Any]) -> None:
    call: Future[Any] = Future()
    call.set_result(None)
    with pytest.raises(RuntimeError, match="without reading all weights"):
        sending[1](call)
