"""The socket for weights: two runs on one machine have two, and both sides of a run have the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from verl.workers.rollout.base import get_rollout_class
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from guidelines_core.runs.start import FOLDER
from guidelines_core.verl_adapter import weight_socket

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
        engine = weight_socket.WorkerExtension.__new__(weight_socket.WorkerExtension)
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
