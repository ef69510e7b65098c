"""The project's reward manager, of whose rollouts some get no verdict, more of them in each step.

Step 1 loses one rollout of each group, step 2 three of the first group's four, step 3 three of every group's. In steps
2 and 3 the verdict of the others is always right, so that an advantage can only come of a missing comparison. A
validation loses its first problem.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guidelines_core.reward.row import dump, load
from guidelines_core.verl_adapter.reward_manager import GuidelineRewardManager

GROUPS = 6


def lost(step: int, group: int) -> int:
    """Return how many of a group's rollouts are lost; groups count from 0 in the order of arrival."""
    return {1: 1, 2: 3 if group == 0 else 0, 3: 3}[step]


class LosingRewardManager(GuidelineRewardManager):
    """Loses rollouts as `lost` says, and grades the others as right from the second step on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: dict[str, int] = {}
        self._lost_problem: str | None = None
        self.compute_score = self._with_losses

    async def _with_losses(self, **rollout: Any) -> dict[str, Any]:
        question = rollout["extra_info"]["question"]
        if rollout["extra_info"]["split"] == "val":
            self._lost_problem = self._lost_problem or question
            if question == self._lost_problem:
                raise ZeroDivisionError("told to fail")
            return await self.scorer.compute_score(**rollout)
        number = self._seen.get(question, 0)
        self._seen[question] = number + 1
        step, group = divmod(list(self._seen).index(question), GROUPS)
        if number < lost(step + 1, group):
            raise ZeroDivisionError("told to fail")
        graded = await self.scorer.compute_score(**rollout)
        if step == 0:
            return graded
        return {**graded, "score": 1.0, "graded": dump(replace(row, score=1.0) for row in load(graded["graded"]))}
