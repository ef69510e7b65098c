"""How the planner writes a guideline: with a seed of its own, and in validation with validation's length.

verl has one length for both, `data.max_response_length` (`SingleTurnAgentLoop.response_length`, `vLLMHttpServer`).
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from guidelines_core.config.layout import validation_guideline_tokens
from guidelines_core.digests import text_seed
from guidelines_core.verl_adapter.early_reference import publish


class WrittenRollout(SingleTurnAgentLoop):
    """verl's single-turn agent loop, whose guideline may be read before it has a reward."""

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        """Generate one guideline; `kwargs` are the problem's fields and the rollout's number."""
        output = await super().run(sampling_params, priority, **kwargs)
        if self.config.guidelines.reference_beside_solver and kwargs["extra_info"]["split"] != "val":
            key = f"{kwargs['uid']}_{kwargs['session_id']}_0"
            await publish(key, output.prompt_ids, output.response_ids, output.response_mask)
        return output


class GuidelineRollout(WrittenRollout):
    """A rollout with a seed and a length for its request; verl makes one agent loop for each rollout.

    `agent_loops.yaml` names it `guideline`; `experiments/conf/base.yaml` selects it.
    """

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        """Generate one guideline; `kwargs` are the problem's fields and the rollout's number.

        With `guidelines.rollout_seed` its seed depends on that, so that a resumed run samples as an uninterrupted one.
        """
        problem, asked = kwargs["extra_info"], dict(sampling_params)
        if (seed := self.config.guidelines.rollout_seed) is not None:
            step, rollout = int(kwargs["global_steps"]), int(kwargs["session_id"])
            asked["seed"] = request_seed(seed, step, str(problem["problem_id"]), rollout)
        if problem["split"] == "val":
            self.response_length = asked["max_tokens"] = validation_guideline_tokens(self.config)
        return await super().run(asked, priority, **kwargs)


def request_seed(seed: int, step: int, problem: str, rollout: int) -> int:
    """Return the seed, in 32 bits, of the `rollout`-th rollout of a problem at a step."""
    return text_seed(repr((seed, step, problem, rollout)))
