"""verl's FSDP engine with LoRA adapters that begin as the same numbers in every start of a run, and are sent fast."""

from __future__ import annotations

import functools
from typing import Any

import torch
from verl.utils import fsdp_utils
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


class SeededEngine(FSDPEngineWithLMHead):
    """The language-model engine, with its adapters initialized from `actor.fsdp_config.seed`.

    PEFT draws them from torch's generator, which verl seeds only with `full_determinism`: two runs of one configuration
    would train different adapters.
    """

    engine_config: Any

    def _build_lora_module(self, module: torch.nn.Module) -> Any:
        """Add the adapters; torch's generator is afterwards as it was.

        PEFT draws on the CPU and moves the adapters then, so no GPU's generator is touched.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.engine_config.seed)
            return super()._build_lora_module(module)


# `__wrapped__` alone: what is said of verl's function, by `upstream.yaml`, is still found.
@functools.wraps(fsdp_utils.backup_base_model_weights, assigned=(), updated=())
def base_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a sharded model's weights without its adapters, by name, each on the device that it is on.

    verl keeps them while the adapters are merged, to send the merged weights to the rollout engine. Its own copies go
    to main memory and back, which takes longer than the update: 5 s of each step for 1.5B on one H200.
    """
    return {name: weight.data.clone() for name, weight in module.named_parameters() if "lora_" not in name}


fsdp_utils.backup_base_model_weights = base_weights
