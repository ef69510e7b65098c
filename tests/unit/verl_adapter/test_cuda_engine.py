"""The reference policy's place in memory, by verl's own sharding of a tiny model on one process."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy
from transformers import LlamaConfig, LlamaForCausalLM
from verl.workers.config import FSDPEngineConfig
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl

from guidelines_core.verl_adapter import cuda_engine


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("fsdp",))
    dist.destroy_process_group()


def policies(cls: type, mesh: DeviceMesh, **keys: bool) -> set[type]:
    """Shard a model with an engine of class `cls`; return its parameters' offload policies, bool for none."""
    config = FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False, **keys)
    engine: Any = object.__new__(cls)
    engine.engine_config, engine.device_mesh = config, mesh
    engine.model_config = SimpleNamespace(lora_rank=0, enable_activation_offload=False)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "num_hidden_layers": 1}
    module = engine._build_fsdp_module(LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)))
    parts = (module, *module.model.layers)
    groups = [part._get_fsdp_state()._fsdp_param_group for part in parts]
    assert engine.engine_config is config, "the engine keeps the configuration that it was given"
    return {type(weight.offload_to_cpu and group.offload_policy) for group in groups for weight in group.fsdp_params}


@pytest.fixture
def without_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what needs one: pinned memory, and the copy of the weights to it."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor)
    monkeypatch.setattr(transformer_impl, "fsdp2_load_full_state_dict", lambda *_: None)


@pytest.mark.usefixtures("without_accelerator")
@pytest.mark.parametrize(("param_offload", "expected"), [(True, CPUOffloadPolicy), (False, bool)])
def test_a_reference_policy_is_offloaded_only_if_its_key_says_so(
    mesh: DeviceMesh, param_offload: bool, expected: type
) -> None:
    assert policies(cuda_engine.FSDPEngineResident, mesh, forward_only=True, param_offload=param_offload) == {expected}
    assert policies(cuda_engine.FSDPEngineResident, mesh, forward_only=False, param_offload=param_offload) == {bool}


@pytest.mark.usefixtures("without_accelerator")
def test_verl_offloads_a_reference_policy_whatever_its_key_says(mesh: DeviceMesh) -> None:
    cls = transformer_impl.FSDPEngineWithLMHead
    assert policies(cls, mesh, forward_only=True, param_offload=False) == {CPUOffloadPolicy}


def test_verl_takes_this_engine_on_nvidias_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    monkeypatch.setenv("VERL_ENGINE_VENDOR", "nvidia")
    for backend in ("fsdp", "fsdp2"):
        assert EngineRegistry.get_engine_cls("language_model", backend) is cuda_engine.FSDPEngineResident
