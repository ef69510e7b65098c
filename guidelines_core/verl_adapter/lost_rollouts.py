"""Counts and limits rollouts without verdict, and sets the advantages of groups with fewer than two rollouts to zero.

verl drops a rollout whose reward function raises, and normalizes the rest of its group by their mean and deviation. A
group of one has mean 0 and deviation 1 there (`core_algos.py`), so its reward becomes its advantage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict

UNGROUPED = ("gae", "reinforce_plus_plus", "remax")
"""Advantage estimators that do not compare the rollouts of a group."""

LOST, INCOMPLETE, LONE = "reward/lost_rollouts", "reward/incomplete_groups", "reward/lone_groups"
"""Metrics of a step: the share of rollouts without verdict, the share of groups that lack some of their rollouts, and
the share of groups with fewer than two rollouts, which have no advantage."""

EVICTED = "training/rollout_failure/evicted_samples"
"""verl's count of groups that its asynchronous replay buffer dropped because a rollout failed."""


class TooManyLostError(RuntimeError):
    """More of a step's rollouts got no verdict than `guidelines.max_lost_share` allows."""


def group_of(key: str) -> str:
    """Return the group's uid of a rollout's key `{uid}_{rollout}_{part}`."""
    return key.rsplit("_", 2)[0]


def sizes(keys: Sequence[str], tags: Sequence[dict[str, Any]]) -> Counter[str]:
    """Return each group's number of rollouts, padding left out."""
    rollouts = {key.rsplit("_", 1)[0] for key, tag in zip(keys, tags, strict=True) if not tag.get("is_padding", False)}
    return Counter(rollout.rsplit("_", 1)[0] for rollout in rollouts)


def loss_metrics(found: Counter[str], groups: int, rollouts: int) -> dict[str, float]:
    """Return the metrics `LOST`, `INCOMPLETE` and `LONE`, each from 0 to 1.

    Args:
        found: rollouts with a verdict, by group; a group without any is absent.
        groups: the number of groups.
        rollouts: the number of rollouts in each group.
    """
    incomplete = sum(1 < size < rollouts for size in found.values())
    whole = sum(size >= max(2, rollouts) for size in found.values())
    return {
        LOST: 1 - sum(found.values()) / (groups * rollouts),
        INCOMPLETE: incomplete / groups,
        LONE: (groups - whole - incomplete) / groups if rollouts > 1 else 0.0,
    }


class LostRollouts:
    """Mixed into verl's trainer: the count, the limit, and zero advantages in groups with fewer than two rollouts."""

    def _balance_batch(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Count the step's rollouts without verdict, before the step changes the weights.

        Raises:
            TooManyLostError: their share is above `guidelines.max_lost_share`.
        """
        config = self.config  # type: ignore[attr-defined]
        rollouts = config.actor_rollout_ref.rollout.n
        groups = config.data.train_batch_size // self.parameter_sync_step + int(metrics.get(EVICTED, 0))  # type: ignore[attr-defined]
        found = sizes(batch.keys, batch.tags)
        lost = loss_metrics(found, groups, rollouts)
        if lost[LOST] > config.guidelines.max_lost_share:
            first = self._first_failure()  # type: ignore[attr-defined]
            counts = self._reward_counts()  # type: ignore[attr-defined]
            reasons = [f"{name} {count:.0f}" for name, count in counts.items() if "/ungraded_" in name and count]
            asked = groups * rollouts
            raise TooManyLostError(
                f"step {self.global_steps}: {asked - sum(found.values())} of {asked} rollouts got no verdict "  # type: ignore[attr-defined]
                f"({', '.join(reasons) or 'verl dropped them'}), expected at most guidelines.max_lost_share="
                f"{config.guidelines.max_lost_share} of them; {first}"
            )
        metrics.update(lost)
        return super()._balance_batch(batch, metrics, *args, **kwargs)  # type: ignore[misc]

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Set the advantages of groups with fewer than two rollouts to zero."""
        batch = super()._compute_advantage(batch, metrics=metrics)  # type: ignore[misc]
        config = self.config  # type: ignore[attr-defined]
        if config.actor_rollout_ref.rollout.n == 1 or config.algorithm.adv_estimator in UNGROUPED:
            return batch
        found = sizes(batch.keys, batch.tags)
        lone = [key for key in batch.keys if found[group_of(key)] == 1]
        if lone:
            data = tq.kv_batch_get(keys=lone, partition_id=batch.partition_id, select_fields=["advantages", "returns"])
            zeros = {name: torch.zeros_like(data[name]) for name in ("advantages", "returns")}
            tq.kv_batch_put(keys=lone, partition_id=batch.partition_id, fields=TensorDict(zeros, batch_size=len(lone)))
        return batch
