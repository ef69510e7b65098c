"""Takes old log-probs from the rollout engine, without another forward pass, while engine and training agree.

The engine samples each token from the weights that are trained next and returns its log-prob. With equal weights it
differs from the log-prob in training only by rounding. `training/rollout_probs_diff_mean` measures the difference at
every step whose old log-probs are computed.
"""

from __future__ import annotations

from typing import Any

from guidelines_core.config import layout

DIFFERENCE = "training/rollout_probs_diff_mean"
"""verl's mean distance of a token's probability, as training computes it, from the rollout engine's."""

FROM_ROLLOUT = "training/old_log_probs_from_rollout"
"""Metric: 1 at a step whose old log-probs are the rollout engine's, else 0."""


def from_rollout(step: int, difference: float | None, agreement: float, check_every: int) -> bool:
    """Return whether a step may take its old log-probs from the rollout.

    Args:
        step: its number, from 1.
        difference: the last measured one, None before the first.
        agreement: the largest difference at which they agree.
        check_every: every so many steps, the difference is measured.
    """
    return difference is not None and difference < agreement and (step - 1) % check_every != 0


class OldLogProbs:
    """Mixed into verl's trainer: the choice at each step."""

    _difference: float | None = None

    def on_train_begin(self) -> None:
        """Forget the difference that was measured with other weights."""
        self._difference = None
        super().on_train_begin()  # type: ignore[misc]

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Take the batch's old log-probs from the rollout if the two agreed at the last check, else compute them."""
        settings = self.config.guidelines.old_log_probs  # type: ignore[attr-defined]
        if not layout.old_log_probs_from_rollout(self.config):  # type: ignore[attr-defined]
            return self._computed(batch, metrics)
        step = self.global_steps  # type: ignore[attr-defined]
        taken = from_rollout(step, self._difference, settings.agreement, settings.check_every)
        if taken:
            import transfer_queue as tq

            data = tq.kv_batch_get(
                keys=batch.keys, partition_id=batch.partition_id, select_fields=["rollout_log_probs"]
            )
            data["old_log_probs"] = data.pop("rollout_log_probs")
            tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=data)
        else:
            batch = self._computed(batch, metrics)
            self._difference = float(metrics[DIFFERENCE])
        metrics[FROM_ROLLOUT] = float(taken)
        return batch

    def _computed(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Compute the batch's old log-probs with the weights that training has now.

        verl's asynchronous trainer first copies all weights to main memory, for later batches that are trained on
        before the next synchronization. Without any, nothing reads the copy; with 3 billion weights it took 10 s of
        each step.
        """
        sync_step = self.config.trainer.v1.separate_async.parameter_sync_step  # type: ignore[attr-defined]
        if layout.separate(self.config) and sync_step == 1:  # type: ignore[attr-defined]
            from verl.trainer.ppo.v1.trainer_base import PPOTrainer

            return PPOTrainer._compute_old_log_prob(self, batch, metrics=metrics)
        return super()._compute_old_log_prob(batch, metrics=metrics)  # type: ignore[misc]
