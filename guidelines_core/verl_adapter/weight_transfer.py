"""How the trainer sends its weights to a rollout engine: through the run's own socket, and failing if the engine fails.

verl's socket is in /tmp and has Ray's job id in its name. The first job of every Ray cluster has the same id, so two
runs on one machine, each with a cluster of its own, would send their weights to each other's engines.

verl's trainer waits until the engine confirms that it has read a bucket. An engine that failed, for want of memory for
example, confirms nothing, and the trainer would wait forever.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import Any

import zmq
from verl.workers.rollout import base
from verl.workers.rollout.vllm_rollout import vllm_rollout
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from guidelines_core.runs.start import FOLDER

RECEIVES = ("update_weights_from_ipc", "update_verl_delta_weights")
"""The engine's methods that receive weights."""

POLL_MS = 500
"""How often the trainer looks whether the engine has failed, in milliseconds."""


def own(address: str) -> str:
    """Return the attempt's own address in place of verl's, which is `ipc:///tmp/NAME`.

    In a Ray cluster that was there before there is no such folder, and the jobs of one cluster have different ids.
    """
    folder = os.environ.get(FOLDER)
    return address if folder is None else f"ipc://{folder}/{address.rpartition('/')[2]}"


class WorkerExtension(vLLMColocateWorkerExtension):
    """The engine's side, selected by `rollout.engine_kwargs.vllm.worker_extension_cls`."""

    def _get_zmq_handle(self) -> str:
        return own(super()._get_zmq_handle())


class Sender(ServerAdapter):
    """The trainer's side."""

    zmq_handle: str

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.zmq_handle = own(self.zmq_handle)

    async def _execute_method(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call a method of the engine, and keep the outcome of one that receives weights for `BucketSender`."""
        found = await super()._execute_method(method, *arguments, **more)
        if method in RECEIVES:
            BucketSender.receiving = None if found is None else found.future()
        return found


class BucketSender(BucketedWeightSender):
    """Sends the weights in buckets, and fails if the engine does.

    Attributes:
        receiving: the engine's call that receives the weights; None in a process that did not make it, where the
            process that did ends the run.
    """

    receiving: Future[Any] | None = None
    socket: Any

    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket = WatchedSocket(self.socket, self.receiving)


class WatchedSocket:
    """A ZMQ socket that waits for its other side only as long as `receiving` has not ended.

    Its methods raise what that call raised, or RuntimeError if it ended without reading all.
    """

    def __init__(self, socket: zmq.Socket[bytes], receiving: Future[Any] | None) -> None:
        self._socket = socket
        self._receiving = receiving

    def recv(self) -> bytes:
        """Return the next message."""
        self._wait(zmq.POLLIN)
        return self._socket.recv()

    def send_pyobj(self, message: object) -> None:
        """Send a message."""
        self._wait(zmq.POLLOUT)
        self._socket.send_pyobj(message)

    def close(self) -> None:
        """Close the socket; what was not read is dropped."""
        self._socket.close(linger=0)

    def _wait(self, ready: int) -> None:
        while not self._socket.poll(POLL_MS, ready):
            if self._receiving is not None and self._receiving.done():
                self._receiving.result()
                if not self._socket.poll(POLL_MS, ready):
                    raise RuntimeError("the rollout engine ended its update without reading all weights")


base._ROLLOUT_REGISTRY["vllm", "async"] = f"{__name__}.{Sender.__name__}"
vllm_rollout.BucketedWeightSender = BucketSender
