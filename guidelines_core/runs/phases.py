"""The phases of a step, as verl times them in its metrics `timing_s/NAME`."""

from __future__ import annotations

IN_STEP = {
    "gen": "guidelines, solutions, verdicts",
    "reward": "solutions and verdicts",
    "old_log_prob": "old log-probs",
    "ref": "reference log-probs",
    "values": "values",
    "adv": "advantages",
    "update_critic": "update of the critic",
    "update_actor": "update of the planner",
    "update_weights": "weights to the rollout engines",
}
"""The phases inside a step, in their order, and what they do.

`reward` is timed only where the solver shares the training GPUs: elsewhere it is part of `gen`.
"""

RECORD = "record"
"""The phase in which the trainer makes a step's graded rows, their metrics and their file."""

AFTER_STEP = {"testing": "validation", "save_checkpoint": "checkpoint"}
"""The phases that follow a step, where they are due."""


def seconds_metric(phase: str) -> str:
    """Return the metric of a phase's seconds."""
    return f"timing_s/{phase}"
