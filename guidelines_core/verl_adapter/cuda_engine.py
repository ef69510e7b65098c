"""verl's FSDP engine on CUDA, loaded by `actor_rollout_ref.model.external_lib`.

It keeps the reference policy on its GPU. The module also registers packed attention (`attention.py`) and the run's own
socket for weights (`weight_transfer.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from verl.workers.engine.base import EngineRegistry

from guidelines_core.verl_adapter import attention as attention
from guidelines_core.verl_adapter import weight_transfer as weight_transfer
from guidelines_core.verl_adapter.adapters import SeededEngine
from guidelines_core.verl_adapter.response_positions import ResponseEngine


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor="nvidia")
class FSDPEngineResident(SeededEngine, ResponseEngine):
    """verl's engine, with the reference policy in main memory only if `ref.fsdp_config.param_offload` is set.

    verl offloads every forward-only engine regardless of the key (`transformer_impl.py`), and copies all weights to the
    GPU for each micro-batch.
    """

    def _build_fsdp_module(self, module: torch.nn.Module) -> Any:
        """Shard the module, without an offload policy unless it is configured."""
        config = self.engine_config
        if config.forward_only and not config.param_offload:
            self.engine_config = dataclasses.replace(config, forward_only=False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config = config
