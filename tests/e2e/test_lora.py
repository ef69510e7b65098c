"""A planner with LoRA adapters in the real loop: they reach the rollout engine, are all that is saved, and merge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guidelines_core.models.bundled import ensure_model
from guidelines_core.models.merge import merge
from tests.support.tiny_run import ONE_THREAD, start

pytestmark = pytest.mark.e2e

STEPS = 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    attempt = start(
        folder,
        ONE_THREAD,
        "actor_rollout_ref.model.lora_rank=4",
        "actor_rollout_ref.model.lora_alpha=16",
        "actor_rollout_ref.model.lora.merge=True",
        "actor_rollout_ref.actor.optim.lr=0.05",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={STEPS}",
        "trainer.test_freq=-1",
        "trainer.val_before_train=False",
    )
    assert attempt.exit_code == 0, attempt.output
    return folder / "run"


def test_rollouts_are_written_with_the_adapters(directory: Path) -> None:
    lines = map(json.loads, (directory / "logs/attempt-1.jsonl").read_text().splitlines())
    steps = [line["data"] for line in lines if "training/global_step" in line["data"]]
    assert len(steps) == STEPS
    # verl rounds what it sends to bfloat16; without the adapters the two would differ by as much as they have changed.
    assert all(step["training/rollout_probs_diff_mean"] < 1e-3 for step in steps)
    # The reference policy is the actor without its adapters.
    assert steps[0]["actor/kl_loss"] == pytest.approx(0, abs=1e-6)
    assert steps[-1]["actor/kl_loss"] > 1e-3


def test_the_adapters_alone_are_saved_and_merge_into_the_model(directory: Path, tmp_path: Path) -> None:
    checkpoint = directory / f"global_step_{STEPS}"
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
