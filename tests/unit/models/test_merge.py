"""Checkpoints of two ranks, sharded by FSDP as verl saves them, merged to one model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForCausalLM, AutoTokenizer

from guidelines_core.models.bundled import ensure_model
from guidelines_core.models.merge import MergeError, main, merge


def save_shard(rank: int, model_folder: Path, out: Path) -> None:
    """Write what rank `rank` of two holds of a model, and the whole of it.

    Each rank cuts its part out of the whole, so that nothing is sent between them.
    """
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=2)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight += 1e-6 * (number + 1)  # as little as a step changes, and nothing that bfloat16 could hold
    torch.save({name: weight.clone() for name, weight in model.state_dict().items()}, out / "whole.pt")
    fully_shard(model, mesh=init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",)))
    torch.save(model.state_dict(), out / f"actor/model_world_size_2_rank_{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tmp_path_factory.mktemp("models") / "tiny-random"
    ensure_model(model)
    (folder / "actor").mkdir()
    (folder / "actor/fsdp_config.json").write_text('{"FSDP_version": 2, "world_size": 2}')
    shutil.copytree(model, folder / "actor/huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    # As verl leaves it after a run with packed attention.
    config = folder / "actor/huggingface/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "attn_implementation": "torch_varlen"}))
    for rank in range(2):
        save_shard(rank, model, folder)
    return folder


def test_two_ranks_shards_are_put_together_to_the_bit(checkpoint: Path, tmp_path: Path) -> None:
    whole = torch.load(checkpoint / "whole.pt")
    merged = load_file(merge(checkpoint, tmp_path / "new" / "planner") / "model.safetensors")
    assert set(merged) == set(whole) - {"lm_head.weight"}  # tied to the embeddings
    for name, weight in merged.items():
        assert torch.equal(weight, whole[name]), name
    changed = [not torch.equal(weight, weight.bfloat16().float()) for weight in merged.values()]
    assert all(changed), "rounding to bfloat16 would be seen"
    assert not (tmp_path / "new" / ".planner.new").exists()


def test_it_can_be_rounded(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint), str(tmp_path / "planner"), "--dtype", "bfloat16"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'planner'}\n"
    whole = torch.load(checkpoint / "whole.pt")
    rounded = load_file(tmp_path / "planner/model.safetensors")
    assert all(torch.equal(weight, whole[name].bfloat16()) for name, weight in rounded.items())
    assert json.loads((tmp_path / "planner/config.json").read_text())["dtype"] == "bfloat16"


def test_transformers_loads_it_in_the_trained_type(checkpoint: Path, tmp_path: Path) -> None:
    folder = merge(checkpoint, tmp_path / "planner")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "is no checkpoint: expected" in capsys.readouterr().err
    (tmp_path / "actor").mkdir()
    (tmp_path / "actor/fsdp_config.json").touch()
    with pytest.raises(MergeError, match="is there already"):
        merge(tmp_path, tmp_path / "actor")


def test_adapters_are_merged_into_their_base_as_peft_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base, actor = tmp_path / "tiny-random", tmp_path / "global_step_1/actor"
    ensure_model(base)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=12, target_modules="all-linear"))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    shutil.copytree(base, actor / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    (actor / "fsdp_config.json").write_text('{"FSDP_version": 2, "world_size": 1}')
    (actor / "lora_train_meta.json").write_text('{"r": 4, "lora_alpha": 12, "task_type": "CAUSAL_LM"}')
    adapters = {name: weight for name, weight in peft.state_dict().items() if "lora_" in name}
    torch.save(adapters, actor / "model_world_size_1_rank_0.pt")

    assert main([str(actor.parent), str(tmp_path / "out")]) == 2
    assert "name the model that they were trained on by --base" in capsys.readouterr().err
    assert main([str(actor.parent), str(tmp_path / "out"), "--base", str(base)]) == 0
    merged = load_file(tmp_path / "out/model.safetensors")
    assert len(load_file(tmp_path / "out/lora_adapter/adapter_model.safetensors")) == len(adapters)
    wanted = peft.merge_and_unload().state_dict()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    assert all(torch.allclose(weight, wanted[name], atol=1e-5) for name, weight in merged.items())
    changed = {name for name, weight in merged.items() if not torch.equal(weight, plain[name])}
    assert len(changed) == len(adapters) // 2
