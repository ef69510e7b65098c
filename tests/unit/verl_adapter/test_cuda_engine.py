from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from verl.workers.config import FSDPEngineConfig
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl

from guidelines_core.verl_adapter import attention, cuda_engine


@pytest.mark.parametrize(("forward_only", "param_offload", "offloads"), [(True, True, True), (True, False, False)])
def test_a_reference_policy_is_offloaded_only_if_its_key_says_so(
    monkeypatch: pytest.MonkeyPatch, forward_only: bool, param_offload: bool, offloads: bool
) -> None:
    seen: list[Any] = []
    # The sharding itself needs a GPU; verl decides about offload by `forward_only` of the configuration it sees here.
    monkeypatch.setattr(
        transformer_impl.FSDPEngineWithLMHead,
        "_build_fsdp_module",
        lambda self, module: seen.append(self.engine_config.forward_only),
    )
    config = FSDPEngineConfig(forward_only=forward_only, param_offload=param_offload)
    engine: Any = object.__new__(cuda_engine.FSDPEngineResident)
    engine.engine_config = config
    engine._build_fsdp_module(None)
    assert seen == [offloads]
    assert engine.engine_config is config
    assert dataclasses.asdict(config)["forward_only"] is forward_only


def test_verl_takes_this_engine_on_nvidias_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    monkeypatch.setenv("VERL_ENGINE_VENDOR", "nvidia")
    for backend in ("fsdp", "fsdp2"):
        assert EngineRegistry.get_engine_cls("language_model", backend) is cuda_engine.FSDPEngineResident
    assert attention.NAME == "torch_varlen"
