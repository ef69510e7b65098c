"""Reference log-probs computed on the training GPUs while the solver still writes a step's last solutions.

They follow from the guidelines alone, but verl computes them when every rollout has its reward
(`PPOTrainer._step_once`). With `guidelines.reference_beside_solver` each guideline goes to the queue as soon as it is
written, in a partition of its own (`publish`). When a step's guidelines are all there, the rollout engines go to sleep,
as verl has them do after the last reward, and the reference policy reads the guidelines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

PARTITION = "written"
"""The queue's partition of guidelines that are written, whether they have a reward or not."""

COMPLETE = "complete"
"""The tag of a guideline whose tokens are in the queue."""

SECONDS = "training/reference_beside_solver_s"
"""Metric: seconds in which a step's reference log-probs were computed before its last reward, 0 where they were not."""


async def publish(key: str, prompt: Sequence[int], response: Sequence[int], mask: Sequence[int]) -> None:
    """Put a guideline's tokens into the queue, with the fields that verl gives it with its reward.

    Args:
        key: the key that verl gives it.
        prompt, response: token ids.
        mask: 1 for each token of the response that is trained.
    """
    tokens = {name: torch.tensor(values, dtype=torch.int64) for name, values in (
        ("prompts", prompt), ("responses", response), ("response_mask", mask), ("loss_mask", mask),
        ("input_ids", [*prompt, *response]), ("position_ids", range(len(prompt) + len(response))),
    )}  # fmt: skip
    sizes = {"prompt_len": len(prompt), "response_len": len(response), "seq_len": len(prompt) + len(response)}
    await tq.async_kv_batch_put(
        keys=[key], fields=list_of_dict_to_tensordict([tokens]), tags=[sizes], partition_id=PARTITION
    )
    # A key is listed before its tokens are stored.
    await tq.async_kv_batch_put(keys=[key], tags=[{COMPLETE: True}], partition_id=PARTITION)


def all_written(tags: Mapping[str, Mapping[str, Any]], rollouts: int) -> bool:
    """Return whether all of a step's `rollouts` guidelines are written; `tags` are those of `PARTITION` by key."""
    return sum(bool(tag.get(COMPLETE)) for tag in tags.values()) == rollouts


class EarlyReference:
    """Mixed into verl's synchronous trainer: the reference policy's early turn."""

    _early: frozenset[str] = frozenset()
    _asleep = False
    _early_s = 0.0

    def _reference_while_waiting(self) -> None:
        """Compute the step's reference log-probs if all of its guidelines are written and it has none yet."""
        config = self.config  # type: ignore[attr-defined]
        tags = self.replay_buffer.partitions[PARTITION]  # type: ignore[attr-defined]
        rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
        if self._early or not all_written(tags, rollouts):
            return
        began = time.monotonic()
        self._put_to_sleep()
        batch = KVBatchMeta(partition_id=PARTITION, keys=list(tags), tags=list(tags.values()))
        batch = self._balance_batch(batch, {})  # type: ignore[attr-defined]
        super()._compute_ref_log_prob(batch, metrics={})  # type: ignore[misc]
        self._early = frozenset(batch.keys)
        self._early_s = time.monotonic() - began

    def _put_to_sleep(self) -> None:
        """Put the rollout engines to sleep, and remember that they are."""
        super().on_sample_end()  # type: ignore[misc]
        self._asleep = True

    def on_sample_end(self) -> None:
        """Put the rollout engines to sleep unless they are."""
        if not self._asleep:
            super().on_sample_end()  # type: ignore[misc]
        self._asleep = False

    def _compute_ref_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Take the reference log-probs that are there already, or compute those of the whole batch."""
        if not self.config.guidelines.reference_beside_solver:  # type: ignore[attr-defined]
            return super()._compute_ref_log_prob(batch, metrics=metrics)  # type: ignore[misc]
        taken = self._early.issuperset(batch.keys)
        metrics[SECONDS] = self._early_s if taken else 0.0
        if taken:
            data = tq.kv_batch_get(keys=batch.keys, partition_id=PARTITION, select_fields=["ref_log_prob"])
            tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=data)
        else:
            batch = super()._compute_ref_log_prob(batch, metrics=metrics)  # type: ignore[misc]
        if written := list((tq.kv_list(PARTITION) or {}).get(PARTITION, {})):
            tq.kv_clear(keys=written, partition_id=PARTITION)
        self._early, self._early_s = frozenset(), 0.0
        return batch
