"""A planner with LoRA adapters in the real loop: they reach the rollout engine, are all that is saved, and merge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guidelines_core.models.bundled import ensure_model
from guidelines_core.models.merge import merge
from guidelines_core.runs.checkpoints import last_checkpoint
from tests.e2e.conftest import Started

pytestmark = pytest.mark.e2e


def test_rollouts_are_written_with_the_adapters(elsewhere: Started) -> None:
    steps = list(elsewhere.steps().values())
    assert len(steps) > 1
    # verl rounds what it sends to bfloat16; without the adapters the two would differ by as much as they have changed.
    assert all(step["training/rollout_probs_diff_mean"] < 1e-3 for step in steps)
    # The reference policy is the actor without its adapters.
    assert steps[0]["actor/kl_loss"] == pytest.approx(0, abs=1e-6)
    assert steps[-1]["actor/kl_loss"] > 1e-3


def test_the_adapters_alone_are_saved_and_merge_into_the_model(elsewhere: Started, tmp_path: Path) -> None:
    checkpoint = elsewhere.directory / f"global_step_{last_checkpoint(elsewhere.directory)}"
    shard = torch.load(checkpoint / "actor/model_world_size_1_rank_0.pt", weights_only=False)
    assert shard
    assert all("lora_" in name for name in shard)
    base = tmp_path / "tiny-random"
    ensure_model(base)
    before, after = (
        load_file(folder / "model.safetensors")
        for folder in (base, merge(checkpoint, tmp_path / "out", base=str(base)))
    )
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if name.endswith("_proj.weight")}
