"""When a step's old log-probs are the rollout engine's own."""

from __future__ import annotations

import pytest

from guidelines_core.config.compose import compose
from guidelines_core.config.layout import old_log_probs_from_rollout
from guidelines_core.verl_adapter.old_log_probs import OldLogProbs, from_rollout


@pytest.mark.parametrize(
    ("step", "difference", "taken"),
    [
        (1, 0.001, False),
        (2, 0.001, True),
        (10, 0.001, True),
        (11, 0.001, False),
        (12, 0.01, False),
        (12, None, False),
        (12, float("nan"), False),
    ],
)
def test_the_first_of_every_ten_steps_measures_and_the_others_follow(
    step: int, difference: float | None, taken: bool
) -> None:
    assert from_rollout(step, difference, agreement=0.01, check_every=10) is taken


@pytest.mark.parametrize(("layout", "taken"), [("hybrid-3p1", True), ("split-1p2p1", False)])
def test_rollouts_of_older_weights_are_not_asked(layout: str, taken: bool) -> None:
    config = compose("numinamath30k-3b-300steps-mathverify-fast", [f"layout={layout}"], environ={})
    assert old_log_probs_from_rollout(config) is taken


class Workers:
    """Counts the copies of the weights in main memory."""

    copies = 0

    def save_model_to_cpu(self, _: int) -> None:
        self.copies += 1


@pytest.mark.parametrize(("sync_step", "copies"), [(1, 0), (2, 1)])
def test_weights_are_copied_only_where_a_later_batch_needs_them(
    monkeypatch: pytest.MonkeyPatch, sync_step: int, copies: int
) -> None:
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync

    class Trainer(OldLogProbs, PPOTrainerSeparateAsync):
        def __init__(self) -> None:
            self.config = compose("numinamath30k-3b-300steps-mathverify-fast", [
                "layout=split-1p2p1", f"trainer.v1.separate_async.parameter_sync_step={sync_step}",
            ], environ={})  # fmt: skip
            self.actor_rollout_wg = Workers()
            self.local_trigger_step = 0

    monkeypatch.setattr(PPOTrainer, "_compute_old_log_prob", lambda _, batch, metrics: batch)
    trainer = Trainer()
    assert trainer._compute_old_log_prob("batch", {}) == "batch"
    assert trainer.actor_rollout_wg.copies == copies
