"""A rollout engine that fails to take weights once, and then writes the file `engine-failed` into the folder FAULTS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from guidelines_core.verl_adapter.cpu.vllm_worker import CPUWorkerExtension

UPDATE = 4
"""The update that fails. The first has the weights that the run begins with."""


class FailingExtension(CPUWorkerExtension):
    """The run's own extension of the vLLM worker, with one failure."""

    updates = 0

    def update_weights_from_ipc(self, *arguments: Any, **more: Any) -> None:
        """Receive the actor's weights, or fail before the first is read."""
        failed = Path(os.environ["FAULTS"]) / "engine-failed"
        self.updates += 1
        if self.updates == UPDATE and not failed.exists():
            failed.touch()
            raise MemoryError("no memory for the weights")
        super().update_weights_from_ipc(*arguments, **more)
