"""The shards of a checkpoint -> one folder that transformers and vLLM load.

    python -m guidelines_core.models.merge CHECKPOINT OUT [--dtype bfloat16]

CHECKPOINT is `…/global_step_N`. Exit codes: 0 done, 1 failed, 2 refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


class MergeError(ValueError):
    """What was given is no checkpoint, or there is something already where the model should go."""


def merge(checkpoint: Path, out: Path, dtype: str | None = None) -> Path:
    """Write the planner's weights of `checkpoint` to `out` as a Hugging Face model with its tokenizer; return `out`.

    The weights get torch's type `dtype`; without it they keep the one that they were trained in. verl's own merger
    rounds them to bfloat16 (`verl/model_merger/fsdp_model_merger.py`), coarser than what a few steps at 1e-6 change
    of fp32 weights: what a planner writes that is rolled out in fp32, as on a CPU, is then not what it wrote.

    Raises:
        MergeError: `checkpoint` holds no actor that FSDP wrote, or there are files in `out`.
    """
    actor = checkpoint / "actor"
    if not (actor / "fsdp_config.json").is_file():
        raise MergeError(f"{checkpoint} is no checkpoint: expected {actor / 'fsdp_config.json'}, as verl writes it")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise MergeError(f"{out} is there already: name another folder, or remove it")
    making = out.with_name(f".{out.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    _merge(actor, making, dtype)
    making.rename(out)
    return out


def _merge(actor: Path, out: Path, dtype: str | None) -> None:
    """Merge the shards of `actor` into `out` with verl's merger."""
    from verl.model_merger.base_model_merger import ModelMergerConfig
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    class Merger(FSDPModelMerger):
        """verl's merger, which keeps the weights' type."""

        def _load_and_merge_state_dicts(
            self, world_size: int, total_shards: int, mesh_shape: Any, mesh_dim_names: Any
        ) -> dict[str, Any]:
            import torch
            from torch.distributed.tensor import DTensor

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
            return {name: weight.to(wanted) for name, weight in merged.items()}

    with tempfile.TemporaryDirectory() as about:
        _without_attention(actor / "huggingface", Path(about))
        merger = Merger(
            ModelMergerConfig(
                operation="merge",
                backend="fsdp",
                local_dir=str(actor),
                target_dir=str(out),
                hf_model_config_path=about,
            )
        )
        with contextlib.redirect_stdout(sys.stderr):  # verl prints its progress
            merger.merge_and_save()
        merger.cleanup()
    # The merger wrote bfloat16 here, whatever the weights are.
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    (out / "config.json").write_text(json.dumps({**config, "dtype": merger.dtype}, indent=2), encoding="utf-8")


def _without_attention(about: Path, copy: Path) -> None:
    """Copy the model's description without the attention that it was trained with.

    verl records `attn_implementation` there. transformers loads no model that names one of ours, `torch_varlen`.
    """
    shutil.copytree(about, copy, dirs_exist_ok=True)
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
    given = parser.parse_args(arguments)
    try:
        merge(given.checkpoint.resolve(), given.out.resolve(), given.dtype)
    except MergeError as error:
        print(error, file=sys.stderr)
        return 2
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
