"""The project's reward function, of whose rollouts some get no verdict, more of them in each step.

Step 1 loses one rollout of each group, step 2 three of the first group's four, step 3 three of every group's. The
verdict of the others is always right, so that an advantage can only come of a missing comparison.
"""

from __future__ import annotations

from typing import Any

from guidelines_core.reward import score as reward

GROUPS = ROLLOUTS = 4
LOST = {1: (1, 1, 1, 1), 2: (3, 0, 0, 0), 3: (3, 3, 3, 3)}
"""Rollouts that are lost in a step, by group in the order of arrival."""

_seen: dict[str, int] = {}


async def compute_score(**kwargs: Any) -> dict[str, Any]:
    """Grade one rollout as right, unless it is one of those that are lost."""
    question = kwargs["extra_info"]["question"]
    number = _seen.get(question, 0)
    _seen[question] = number + 1
    group = list(_seen).index(question)
    if number < LOST[group // GROUPS + 1][group % GROUPS]:
        raise ZeroDivisionError("told to fail")
    return {**await reward.compute_score(**kwargs), "score": 1.0}
