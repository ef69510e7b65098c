"""The LoRA adapters that a run begins with, on a tiny model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from transformers import LlamaConfig, LlamaForCausalLM
from verl.utils import fsdp_utils
from verl.workers.config import FSDPEngineConfig
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from guidelines_core.verl_adapter.adapters import SeededEngine, base_weights
from guidelines_core.verl_adapter.cuda_engine import FSDPEngineResident

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "num_hidden_layers": 1}
KEYS = {"target_modules": "all-linear", "target_parameters": None, "exclude_modules": None}


def drawn(cls: type, seed: int, others: int) -> dict[str, torch.Tensor]:
    """Return the adapters of an engine with `seed`, made while torch's generator has the seed `others`."""
    engine: Any = object.__new__(cls)
    engine.engine_config = FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False, seed=seed)
    engine.model_config = SimpleNamespace(lora_rank=4, lora_alpha=8, lora_adapter_path=None, **KEYS)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **SIZES))
    torch.manual_seed(others)
    expected = torch.rand(1)
    torch.manual_seed(others)
    found = get_peft_model_state_dict(engine._build_lora_module(model))
    if cls is not FSDPEngineWithLMHead:
        assert torch.rand(1) == expected, "the generator is as it was"
    return {name: weight for name, weight in found.items() if "lora_A" in name}


@pytest.mark.parametrize(("seed", "same"), [(1, True), (2, False)])
def test_adapters_begin_the_same_with_the_same_seed_alone(seed: int, same: bool) -> None:
    first, second = drawn(SeededEngine, 1, others=5), drawn(FSDPEngineResident, seed, others=6)
    assert len(first) == 7
    assert all(torch.equal(weight, second[name]) == same for name, weight in first.items())


def test_verl_draws_them_from_whatever_state_its_generator_has() -> None:
    first, second = (drawn(FSDPEngineWithLMHead, 1, others) for others in (5, 6))
    assert not any(torch.equal(weight, second[name]) for name, weight in first.items())


def test_merged_weights_are_put_back_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def merge(module: Any, do_merge: bool) -> None:
        fsdp_utils._merge_or_unmerge_lora_(module, merge=do_merge)

    # FSDP's gathering needs a process group; the merge itself and the copies are verl's and ours.
    monkeypatch.setattr(fsdp_utils, "fsdp_merge_unmerge", merge)
    torch.manual_seed(0)
    model = get_peft_model(
        LlamaForCausalLM(LlamaConfig(vocab_size=8, **SIZES)),
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False),
    )
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for copies in (fsdp_utils.backup_base_model_weights(model), base_weights(model)):
        assert set(copies) == {name for name, _ in model.named_parameters() if "lora_" not in name}
    for _ in range(2):
        with fsdp_utils.merged_lora_context(model, backup_adapters=True):
            changed = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
        assert len(changed) == 7
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_copies_stay_on_the_device_of_the_weights() -> None:
    assert fsdp_utils.backup_base_model_weights is base_weights
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **SIZES))
    assert {weight.device.type for weight in base_weights(model).values()} == {"meta"}
