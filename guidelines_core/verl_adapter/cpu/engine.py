"""verl's FSDP engine on a CPU, loaded by `actor_rollout_ref.model.external_lib`."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch
import torch.distributed as dist
from verl.workers.engine.base import EngineRegistry

from guidelines_core.verl_adapter import attention as attention
from guidelines_core.verl_adapter import process_group
from guidelines_core.verl_adapter import weight_transfer as weight_transfer
from guidelines_core.verl_adapter.adapters import SeededEngine
from guidelines_core.verl_adapter.response_positions import ResponseEngine


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class FSDPEngineCPU(SeededEngine, ResponseEngine):
    """The language-model engine, which verl registers for cuda and npu only (`transformer_impl.py`)."""

    def _build_fsdp_module(self, module: torch.nn.Module) -> Any:
        """Shard the module without offload.

        verl gives a forward-only engine (the reference policy) an offload policy with pinned memory
        (`transformer_impl.py`), which fails without an accelerator.
        """
        config = self.engine_config
        self.engine_config = dataclasses.replace(config, forward_only=False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config = config


# verl asks torch for the backend "cpu:gloo,cpu:gloo" (`utils/distributed.py`), which torch rejects. Ray's FSDP
# workers have a rank, the other processes that load the model's configuration have none.
if "RANK" in os.environ and "MASTER_ADDR" in os.environ and not dist.is_initialized():
    process_group.initialize("cpu:gloo")
