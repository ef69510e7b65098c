"""Merge the shards of a checkpoint into one folder that transformers and vLLM load.

    python -m guidelines_core.models.merge CHECKPOINT OUT [--dtype bfloat16] [--base MODEL]

CHECKPOINT is `…/global_step_N`. Of LoRA adapters alone it needs their base, MODEL; the adapters are merged into its
weights, and lie as they are in `OUT/lora_adapter`. Exit codes: 0 done, 1 failed, 2 refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ADAPTERS = "lora_train_meta.json"
"""What verl writes beside a checkpoint's shards if they hold LoRA adapters: their rank and alpha."""


class MergeError(ValueError):
    """The checkpoint is not one, or the output folder holds files already."""


def merge(checkpoint: Path, out: Path, dtype: str | None = None, base: str | None = None) -> Path:
    """Write the planner's weights of `checkpoint` to `out` as a Hugging Face model with its tokenizer; return `out`.

    The weights get torch's type `dtype`; without it they keep the type they were trained in. verl's own merger rounds
    them to bfloat16 (`verl/model_merger/fsdp_model_merger.py`), which loses what a few steps at a learning rate of 1e-6
    change in fp32 weights.

    `base` is the model that LoRA adapters were trained on; a checkpoint of all weights does not need it.

    Raises:
        MergeError: `checkpoint` holds no actor that FSDP wrote, there are files in `out`, or adapters lack their base.
    """
    actor = checkpoint / "actor"
    if not (actor / "fsdp_config.json").is_file():
        raise MergeError(f"{checkpoint} is no checkpoint: expected {actor / 'fsdp_config.json'}, as verl writes it")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise MergeError(f"{out} is there already: name another folder, or remove it")
    if (actor / ADAPTERS).is_file() and base is None:
        raise MergeError(f"{checkpoint} holds LoRA adapters: name the model that they were trained on by --base")
    making = out.with_name(f".{out.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    _merge(actor, making, dtype, base)
    making.rename(out)
    return out


def with_adapters(weights: Mapping[str, Tensor], adapters: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return a model's weights with LoRA adapters merged into them: W + scale * B A (Hu et al. 2021, 2106.09685).

    Args:
        weights: by the model's own names.
        adapters: by PEFT's names, `base_model.model.MODULE.lora_A.default.weight` and `…lora_B…`.
        scale: alpha / rank.
    """
    merged = dict(weights)
    for name, down in adapters.items():
        if ".lora_A." not in name:
            continue
        up = adapters[name.replace(".lora_A.", ".lora_B.")]
        weight = name.removeprefix("base_model.model.").split(".lora_A.")[0] + ".weight"
        merged[weight] = (merged[weight].float() + scale * (up.float() @ down.float())).to(merged[weight].dtype)
    return merged


def _merge(actor: Path, out: Path, dtype: str | None, base: str | None) -> None:
    """Merge the shards of `actor` into `out` with verl's merger."""
    from verl.model_merger.base_model_merger import ModelMergerConfig
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    class Merger(FSDPModelMerger):
        """verl's merger, without its rounding to bfloat16."""

        def _load_and_merge_state_dicts(
            self, world_size: int, total_shards: int, mesh_shape: Any, mesh_dim_names: Any
        ) -> dict[str, Any]:
            import torch
            from torch.distributed.tensor import DTensor
            from transformers import AutoModelForCausalLM

            files = [actor / f"model_world_size_{world_size}_rank_{rank}.pt" for rank in range(total_shards)]
            shards = [torch.load(file, map_location="cpu", weights_only=False) for file in files]
            merged: dict[str, Any] = {}
            for name, first in shards[0].items():
                parts = [shard[name] for shard in shards]
                # The last dimension of the mesh is FSDP's; over the others the weights are copies.
                merged[name] = (
                    self._merge_by_placement([part._local_tensor for part in parts], first.placements[-1])
                    if isinstance(first, DTensor)
                    else first
                )
            wanted = getattr(torch, dtype) if dtype else next(iter(merged.values())).dtype
            self.dtype = str(wanted).removeprefix("torch.")
            if base is not None and (meta := self._load_lora_train_meta()):
                # verl's merger writes the adapters to a folder of their own and leaves the weights without them.
                adapters = {name: weight for name, weight in merged.items() if "lora_" in name}
                self.save_lora_adapter(dict(adapters))
                model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
                merged = with_adapters(model.state_dict(), adapters, meta["lora_alpha"] / meta["r"])
            return {name: weight.to(wanted) for name, weight in merged.items()}

    with tempfile.TemporaryDirectory() as folder:
        _without_attention(actor / "huggingface", Path(folder))
        merger = Merger(
            ModelMergerConfig(
                operation="merge",
                backend="fsdp",
                local_dir=str(actor),
                target_dir=str(out),
                hf_model_config_path=folder,
            )
        )
        with contextlib.redirect_stdout(sys.stderr):  # verl prints its progress
            merger.merge_and_save()
        merger.cleanup()
    # The merger writes bfloat16 here for any type of weights.
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    (out / "config.json").write_text(json.dumps({**config, "dtype": merger.dtype}, indent=2), encoding="utf-8")


def _without_attention(source: Path, copy: Path) -> None:
    """Copy the model's configuration and tokenizer without `attn_implementation`.

    verl records it there, and transformers does not load a model with this project's `torch_varlen`.
    """
    shutil.copytree(source, copy, dirs_exist_ok=True)
    file = copy / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config.pop("attn_implementation", None)
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Merge the checkpoint that the command line names and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m guidelines_core.models.merge", description="A checkpoint as a model."
    )
    parser.add_argument("checkpoint", type=Path, help="…/global_step_N")
    parser.add_argument("out", type=Path, help="the model's folder, which must not hold anything")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], help="(default: as trained)")
    parser.add_argument("--base", metavar="MODEL", help="the model that LoRA adapters were trained on")
    options = parser.parse_args(arguments)
    try:
        merge(options.checkpoint.resolve(), options.out.resolve(), options.dtype, options.base)
    except MergeError as error:
        print(error, file=sys.stderr)
        return 2
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
