"""Guidelines and solutions with long-tailed lengths, whatever the models write: the second workload of a benchmark.

An arm selects both by `actor_rollout_ref.rollout.agent.default_agent_loop=tailed_single_turn`, with
`agent_loop_config_path` the file `tailed.yaml` beside this one, and
`reward.reward_manager={name: TailedRewardManager, module.path: pkg://analysis.bench.tailed}`. With `ignore_eos` each
text then has exactly its drawn length: the same lengths in every arm, so that arms do the same work.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from analysis.bench.update_batch import MEDIAN_RESPONSE, SPREAD
from guidelines_core.digests import text_seed
from guidelines_core.prompts import Message
from guidelines_core.reward.score import Scorer
from guidelines_core.solver.client import Solver
from guidelines_core.solver.response import Solution
from guidelines_core.verl_adapter.reward_manager import GuidelineRewardManager
from guidelines_core.verl_adapter.rollout import LimitedRollout


def tailed_length(key: Sequence[object], cap: int) -> int:
    """Return the length of the text that `key` names, in tokens: log-normal around `MEDIAN_RESPONSE`, 1 to `cap`."""
    drawn = random.Random(text_seed(repr(tuple(key)))).gauss(0, SPREAD)
    return max(1, min(cap, round(MEDIAN_RESPONSE * math.exp(drawn))))


class TailedRollout(LimitedRollout):
    """Guidelines of drawn lengths; a problem's rollouts have the same ones whenever it is asked."""

    def limit(self, rollout: dict[str, Any]) -> int:
        """Return the tokens of one rollout, given its problem's fields and its number."""
        return tailed_length((rollout["extra_info"]["problem_id"], rollout["session_id"]), self.response_length)


class TailedSolver(Solver):
    """Solutions of drawn lengths: the first request has the first length, whatever it asks."""

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
        """Return the answers to a request, each of the request's drawn length."""
        self._drawn += 1
        length = tailed_length((self._drawn,), max_tokens or self._max_tokens)
        return await super().solve(messages, temperature=temperature, samples=samples, max_tokens=length, seed=seed)


class TailedScorer(Scorer):
    """The reward function with solutions of drawn lengths."""

    client_class = TailedSolver


class TailedRewardManager(GuidelineRewardManager):
    """The reward manager with solutions of drawn lengths."""

    scorer_class = TailedScorer
