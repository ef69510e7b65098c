"""A run with LoRA adapters that was interrupted and resumed, against one that was not: the same steps and adapters."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.support.tensors import tensors
from tests.support.tiny_run import STEPS, Run, done, start, store

pytestmark = pytest.mark.slow

LORA = (
    "actor_rollout_ref.model.lora_rank=4",
    "actor_rollout_ref.model.lora_alpha=16",
    "actor_rollout_ref.model.lora.merge=True",
    "actor_rollout_ref.actor.optim.lr=0.05",
    "trainer.save_freq=1",
    "trainer.test_freq=-1",
    "trainer.val_before_train=False",
)
HELD = "tests.support.held_driver"
"""The driver of the run that is interrupted."""

COMPARED = (
    "actor/loss", "actor/kl_loss", "actor/grad_norm", "critic/advantages/max", "reward/mean", "guideline/tokens",
    "solution/tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Both:
    """Two runs of the same configuration, and the steps that the first one had done when it was interrupted."""

    resumed: Run
    unbroken: Run
    before: int


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder, other = tmp_path_factory.mktemp("resumed"), tmp_path_factory.mktemp("unbroken")
    run = Run(folder / "run", store(folder))
    start(folder, *LORA, driver=HELD, stop_when=lambda: done(run.directory, 2), stop_by=signal.SIGTERM)
    before = len(run.steps())
    resumed, unbroken = start(folder, *LORA, "--resume"), start(other, *LORA)
    assert resumed.exit_code == 0, resumed.output
    assert unbroken.exit_code == 0, unbroken.output
    return Both(run, Run(other / "run", store(other)), before)


def test_the_steps_before_and_after_the_interruption_are_those_of_the_unbroken_run(both: Both) -> None:
    assert 1 <= both.before < STEPS
    ours, theirs = both.resumed.steps(), both.unbroken.steps()
    assert list(ours) == list(theirs) == list(range(1, STEPS + 1))
    for step in ours:
        for name in COMPARED:
            assert ours[step][name] == pytest.approx(theirs[step][name], rel=1e-5, abs=1e-5), f"{name} of step {step}"
    assert theirs[STEPS]["actor/kl_loss"] > 1e-3


@pytest.mark.parametrize("part", ["model", "optim"])
def test_the_resumed_run_ends_with_the_same_adapters(both: Both, part: str) -> None:
    def saved(run: Run, step: int) -> dict[str, torch.Tensor]:
        file = run.directory / f"global_step_{step}/actor/{part}_world_size_1_rank_0.pt"
        return tensors(torch.load(Path(file), weights_only=False))

    ours, theirs = saved(both.resumed, STEPS), saved(both.unbroken, STEPS)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5, msg=name)
    first = saved(both.unbroken, 1)
    assert any(not torch.equal(tensor, first[name]) for name, tensor in theirs.items()), "training went on"
