"""Rollouts sampled with seeds derived from the run's, so that a resumed run samples as an uninterrupted one.

`LimitedRollout` is for measurements whose texts have given lengths.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from guidelines_core.digests import text_seed


class SeededRollout(SingleTurnAgentLoop):
    """verl's single-turn agent loop, with its own seed for each request.

    `agent_loops.yaml` names it `seeded_single_turn`; `experiments/conf/base.yaml` selects it.
    """

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        """Generate one guideline; `kwargs` are the problem's fields and the rollout's number."""
        seed = request_seed(
            self.config.guidelines.rollout_seed,
            int(kwargs["global_steps"]),
            str(kwargs["extra_info"]["problem_id"]),
            int(kwargs["session_id"]),
        )
        return await super().run({**sampling_params, "seed": seed}, priority, **kwargs)


class LimitedRollout(SingleTurnAgentLoop):
    """verl's single-turn agent loop, with its own limit of tokens for each request."""

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        """Generate one guideline of at most `limit` tokens; `kwargs` are its problem's fields and its number."""
        return await super().run({**sampling_params, "max_tokens": self.limit(kwargs)}, priority, **kwargs)

    def limit(self, rollout: dict[str, Any]) -> int:
        """Return the most tokens of a rollout, given its problem's fields and its number."""
        raise NotImplementedError


def request_seed(seed: int, step: int, problem: str, rollout: int) -> int:
    """Return the seed, in 32 bits, of the `rollout`-th rollout of a problem at a step."""
    return text_seed(repr((seed, step, problem, rollout)))
