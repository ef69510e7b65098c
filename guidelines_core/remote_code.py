"""Keeps code that comes with a model from being run.

Everything that loads a model asks verl's `trust_remote_code`, which is False, but verl's reward workers load both
tokenizers with True (`experimental/reward_loop/reward_loop.py:125`).
"""

from __future__ import annotations

from typing import Any

from verl.experimental.reward_loop import reward_loop


class ClosedRewardLoopWorker(reward_loop.RewardLoopWorker):  # type: ignore[misc]
    """verl's reward worker, whose tokenizers bring no code of their own."""

    def _init_reward_fn(self) -> None:
        trusting = reward_loop.hf_tokenizer

        def closed(path: str, **options: Any) -> Any:
            return trusting(path, **{**options, "trust_remote_code": False})

        reward_loop.hf_tokenizer = closed
        super()._init_reward_fn()


def keep_out() -> None:
    """Have this process's `RewardLoopManager`s start closed workers; it takes them from its module by name."""
    reward_loop.RewardLoopWorker = ClosedRewardLoopWorker
