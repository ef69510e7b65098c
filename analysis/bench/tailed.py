"""Texts of given lengths, whatever the models write: two workloads in one run of a benchmark.

In the first `EVEN_STEPS` steps every guideline and every solution has the same length, in the later ones each has a
drawn one, long-tailed and the same in every arm. `workloads.OVERRIDES` makes a run so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from analysis.bench.update_batch import MEDIAN_RESPONSE, SPREAD
from analysis.bench.workloads import EVEN_STEPS
from guidelines_core.config import layout
from guidelines_core.digests import text_seed
from guidelines_core.prompts import Message
from guidelines_core.reward.score import Scorer
from guidelines_core.solver.client import Solver
from guidelines_core.solver.response import Solution
from guidelines_core.verl_adapter.reward_manager import GuidelineRewardManager
from guidelines_core.verl_adapter.rollout import WrittenRollout


def tailed_length(key: Sequence[object], cap: int) -> int:
    """Return the length of the text that `key` names, in tokens: log-normal around `MEDIAN_RESPONSE`, 1 to `cap`."""
    drawn = random.Random(text_seed(repr(tuple(key)))).gauss(0, SPREAD)
    return max(1, min(cap, round(MEDIAN_RESPONSE * math.exp(drawn))))


class TailedRollout(WrittenRollout):
    """Guidelines of given lengths; a problem's rollouts have the same drawn ones whenever it is asked."""

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> Any:
        """Generate one guideline of at most `limit` tokens; `kwargs` are its problem's fields and its number."""
        return await super().run({**sampling_params, "max_tokens": self.limit(kwargs)}, priority, **kwargs)

    def limit(self, rollout: dict[str, Any]) -> int:
        """Return the tokens of one rollout, given its problem's fields and its number."""
        if rollout["global_steps"] <= EVEN_STEPS:
            return min(MEDIAN_RESPONSE, int(self.response_length))
        return tailed_length((rollout["extra_info"]["problem_id"], rollout["session_id"]), self.response_length)


class TailedSolver(Solver):
    """Solutions of given lengths: of drawn ones the first request has the first, whatever it asks.

    Attributes:
        even: how many requests are left whose solutions have `MEDIAN_RESPONSE` tokens.
    """

    even = 0
    _drawn = 0

    async def solve(
        self,
        messages: list[Message],
        *,
        temperature: float,
        samples: int = 1,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Solution]:
        """Return the answers to a request, each of the request's length."""
        limit = max_tokens or self._max_tokens
        if self.even > 0:
            self.even -= 1
            length = min(MEDIAN_RESPONSE, limit)
        else:
            self._drawn += 1
            length = tailed_length((self._drawn,), limit)
        return await super().solve(messages, temperature=temperature, samples=samples, max_tokens=length, seed=seed)


class TailedScorer(Scorer):
    """The reward function with solutions of given lengths."""

    client_class = TailedSolver


class TailedRewardManager(GuidelineRewardManager):
    """The reward manager with solutions of given lengths."""

    scorer_class = TailedScorer

    def __init__(self, config: DictConfig, *more: Any, **named: Any) -> None:
        super().__init__(config, *more, **named)
        client = self.scorer.client
        assert isinstance(client, TailedSolver)
        client.even = even_requests(config)


def even_requests(config: DictConfig) -> int:
    """Return the solver's requests for guidelines that were asked for in the first `EVEN_STEPS` steps.

    A trainer that asks a step ahead asks for two batches in the first one.
    """
    return int(
        (EVEN_STEPS + layout.overlaps(config)) * config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    )
