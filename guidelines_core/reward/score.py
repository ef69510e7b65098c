"""The reward of one rollout: the solver answers with the guideline's help, the grader says whether it is right."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from guidelines_core.grading.pool import GradingPool, Reason
from guidelines_core.prompts import solver_messages
from guidelines_core.reward.leak import leaks, reward
from guidelines_core.solver.client import Solver, SolverError

DECIDED = frozenset(reason.value for reason in (Reason.CORRECT, Reason.WRONG, Reason.NO_ANSWER))

RAISED = "reward_error"
"""The reason where grading raised an unexpected error."""


class RewardUnavailable(RuntimeError):
    """No verdict could be had for a rollout; its reward is unknown, not 0."""


class Scorer:
    """Grades the rollouts of one reward worker: one solver client, one pool of grading processes, and their counts.

    One client keeps its connections and answers between steps.

    Args:
        addresses: `host:port` of each of the solver's servers.
        solver, grader, prompts: the sections of `guidelines`.
        workers: reward workers, which share the places at the servers fairly.

    Attributes:
        ungraded: rollouts that got no verdict, by reason, since they were last taken.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        solver: dict[str, Any],
        grader: dict[str, Any],
        prompts: dict[str, Any],
        workers: int = 1,
    ) -> None:
        self.ungraded: Counter[str] = Counter()
        self._grader, self._prompts = grader, prompts
        self._pool = GradingPool(
            workers=grader["workers"], deadline=grader["deadline_s"], memory_mb=grader["memory_mb"]
        )
        self._addresses = addresses
        self.set_solver(solver, workers)

    def relocate(self, addresses: Sequence[str]) -> None:
        """Ask the solver's servers at these addresses from now on; a server that was started again has a new one."""
        self._addresses = addresses
        self.client.relocate(addresses)

    def set_solver(self, settings: dict[str, Any], workers: int) -> None:
        """Replace the solver client by one with these settings and an empty cache."""
        self._solver = settings
        self.client = Solver(
            self._addresses,
            settings["model"],
            max_tokens=settings["max_tokens"],
            max_concurrency=settings["max_concurrency"] // workers,
            deadline_s=settings["deadline_s"],
            step_deadline_s=settings["step_deadline_s"],
            seed=settings["seed"],
            ignore_eos=settings["ignore_eos"],
        )

    def take_counts(self) -> Counter[str]:
        """Return what was counted since the last call, and count from nothing again.

        The rollouts without verdict as `ungraded_REASON`, and the client's `asked`, `cache_hits`, `retries` and
        `most_in_flight`.
        """
        counts = Counter({f"ungraded_{reason}": count for reason, count in self.ungraded.items()})
        self.ungraded.clear()
        counts.update(self.client.counts, most_in_flight=self.client.most_in_flight)
        self.client.counts.clear()
        self.client.most_in_flight = 0
        return counts

    async def compute_score(
        self, data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any]
    ) -> dict[str, Any]:
        """Grade one rollout: `solution_str` is the planner's guideline, `ground_truth` the gold answer.

        verl's reward manager calls this for every rollout as soon as its guideline is written, while others are still
        being generated.

        Returns:
            `score` (1.0 or 0.0) and the whole graded row, which verl keeps beside the rollout.

        Raises:
            RewardUnavailable: the solver gave no answer or the grader no verdict. verl drops the rollout.
        """
        solver, grader, prompts = self._solver, self._grader, self._prompts
        question = extra_info["question"]
        temperature = solver["val_temperature"] if extra_info["split"] == "val" else solver["temperature"]

        asked_at, asked = datetime.now(timezone.utc), time.monotonic()
        try:
            solution = await self.client.solve(
                solver_messages(question, solution_str, prompts["style"]), temperature=temperature
            )
        except SolverError as error:
            self.ungraded[Reason.SOLVER_ERROR.value] += 1
            raise RewardUnavailable(f"problem {extra_info['problem_id']}: {error}") from error
        answered = time.monotonic()
        verdicts = await self._pool.grade(ground_truth, solution.text)
        graded = time.monotonic()
        verdict = verdicts[grader["name"]]
        if verdict.reason not in DECIDED:
            self.ungraded[verdict.reason] += 1
            raise RewardUnavailable(f"problem {extra_info['problem_id']}: the grader ended with {verdict.reason}")
        leak = leaks(question, solution_str, ground_truth)
        return {
            "score": reward(verdict.correct, leak, grader["leak"]),
            "acc": float(verdict.correct),
            "reason": verdict.reason,
            **{f"{name}_correct": float(verdict.correct) for name, verdict in verdicts.items()},
            "problem_id": extra_info["problem_id"],
            "question": question,
            "gold": ground_truth,
            "guideline": solution_str,
            "guideline_leak": float(leak),
            "solution": solution.text,
            "solution_tokens": solution.tokens,
            "solution_truncated": float(solution.truncated),
            # Texts, since verl would average numbers over the validation's rows and log them as metrics.
            "solver_sampling": (
                f"temperature {temperature:g}, seed {solution.seed}, at most {solver['max_tokens']} tokens"
            ),
            "asked_at": asked_at.isoformat(),
            "solver_s": answered - asked,
            "grader_s": graded - answered,
        }
