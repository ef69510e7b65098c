"""The socket that a rollout engine gets its weights through, in the attempt's own folder.

verl's is in /tmp and has Ray's job id in its name. The first job of every Ray cluster has the same id, so two runs on
one machine, each with a cluster of its own, would send their weights to each other's engines.
"""

from __future__ import annotations

import os
from typing import Any

from verl.workers.rollout import base
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from guidelines_core.runs.start import FOLDER


def own(address: str) -> str:
    """Return the attempt's own address in place of verl's, which is `ipc:///tmp/NAME`.

    In a Ray cluster that was there before there is no such folder, and the jobs of one cluster have different ids.
    """
    folder = os.environ.get(FOLDER)
    return address if folder is None else f"ipc://{folder}/{address.rpartition('/')[2]}"


class Sender(ServerAdapter):
    """The trainer's side."""

    zmq_handle: str

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.zmq_handle = own(self.zmq_handle)


class WorkerExtension(vLLMColocateWorkerExtension):
    """The engine's side, selected by `rollout.engine_kwargs.vllm.worker_extension_cls`."""

    def _get_zmq_handle(self) -> str:
        return own(super()._get_zmq_handle())


base._ROLLOUT_REGISTRY["vllm", "async"] = f"{__name__}.{Sender.__name__}"
