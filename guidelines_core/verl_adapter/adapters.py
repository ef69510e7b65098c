"""verl's FSDP engine with LoRA adapters that begin as the same numbers in every start of a run."""

from __future__ import annotations

from typing import Any

import torch
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
