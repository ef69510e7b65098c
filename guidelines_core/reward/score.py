"""The reward of one rollout: the solver answers with the guideline's help, the grader says whether it is right."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from guidelines_core.grading.pool import GradingPool
from guidelines_core.grading.verdicts import Reason, Verdict
from guidelines_core.prompts import solver_messages
from guidelines_core.reward.leak import leaks
from guidelines_core.reward.row import GradedRow, dump
from guidelines_core.solver.client import Solver, SolverError
from guidelines_core.solver.response import Solution
from guidelines_core.solver.servers import key_of

DECIDED = frozenset(reason.value for reason in (Reason.CORRECT, Reason.WRONG, Reason.NO_ANSWER))

RAISED = "reward_error"
"""The reason where grading raised an unexpected error."""


class RewardUnavailable(RuntimeError):
    """A rollout got no verdict, so its reward is unknown."""


class Scorer:
    """Grades the rollouts of one reward worker: one solver client, one pool of grading processes, and their counts.

    The client keeps its connections and its cache of answers between steps.

    Args:
        addresses: `host:port` of each of the solver's servers, or its URL where it is elsewhere.
        solver, grader, prompts: the sections of `guidelines`.
        workers: the number of reward workers, which share `max_concurrency` equally.

    Attributes:
        ungraded: rollouts without verdict since the last `take_counts`, by reason.
        first_failure: why the first of them got no verdict, None if all got one.
        client_class: the solver client's class.
    """

    client_class: type[Solver] = Solver

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
        self.first_failure: str | None = None
        self._grader, self._prompts = grader, prompts
        self._pool = GradingPool(
            workers=grader["workers"], deadline=grader["deadline_s"], memory_mb=grader["memory_mb"]
        )
        self._addresses = addresses
        self.set_solver(solver, workers)

    def relocate(self, addresses: Sequence[str]) -> None:
        """Send requests to these addresses from now on; a restarted server has a new address."""
        self._addresses = addresses
        self.client.relocate(addresses)

    def set_solver(self, settings: dict[str, Any], workers: int) -> None:
        """Replace the solver client by one with these settings and an empty cache."""
        self._solver = settings
        self.client = self.client_class(
            self._addresses,
            settings["model"],
            max_tokens=settings["max_tokens"],
            max_concurrency=settings["max_concurrency"] // workers,
            deadline_s=settings["deadline_s"],
            step_deadline_s=settings["step_deadline_s"],
            seed=settings["seed"],
            ignore_eos=settings["ignore_eos"],
            key=key_of(settings.get("key_env")),
        )

    def take_counts(self) -> Counter[str]:
        """Return the counts since the last call and reset them.

        These are rollouts without verdict as `ungraded_REASON`, and the client's `asked`, `cache_hits`, `retries` and
        `most_in_flight`.
        """
        counts = Counter({f"ungraded_{reason}": count for reason, count in self.ungraded.items()})
        self.ungraded.clear()
        self.first_failure = None
        counts.update(self.client.counts, most_in_flight=self.client.most_in_flight)
        self.client.counts.clear()
        self.client.most_in_flight = 0
        return counts

    def lost(self, reason: str, why: str) -> RewardUnavailable:
        """Count a rollout that gets no verdict and return the exception that says so."""
        self.ungraded[reason] += 1
        self.first_failure = self.first_failure or why
        return RewardUnavailable(why)

    async def compute_score(
        self, data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any]
    ) -> dict[str, Any]:
        """Grade one rollout: `solution_str` is the planner's guideline, `ground_truth` the gold answer.

        The reward manager calls this for every rollout as soon as its guideline is generated.

        Returns:
            `score`, the reward; `acc`, the share of right solutions; and `graded`, the rollout's rows (`row.dump`).

        Raises:
            RewardUnavailable: the solver gave no answer or the grader no verdict. verl drops the rollout.
        """
        solver, grader, prompts = self._solver, self._grader, self._prompts
        question, validating = extra_info["question"], extra_info["split"] == "val"
        temperature = solver["val_temperature" if validating else "temperature"]
        samples = solver["val_samples" if validating else "samples"]
        max_tokens = solver["val_max_tokens" if validating else "max_tokens"]

        asked_at, asked = datetime.now(timezone.utc), time.monotonic()
        try:
            solutions = await self.client.solve(
                solver_messages(question, solution_str, prompts["style"]),
                temperature=temperature,
                samples=samples,
                max_tokens=max_tokens,
            )
        except SolverError as error:
            raise self.lost(Reason.SOLVER_ERROR.value, f"problem {extra_info['problem_id']}: {error}") from error
        answered = time.monotonic()
        verdicts = await asyncio.gather(*(self._pool.grade(ground_truth, solution.text) for solution in solutions))
        graded_at = time.monotonic()
        for verdict in (given[grader["name"]] for given in verdicts):
            if verdict.reason not in DECIDED:
                said = f"problem {extra_info['problem_id']}: the grader ended with {verdict.reason}"
                raise self.lost(verdict.reason, said)
        rows = graded_rows(
            extra_info["problem_id"],
            question,
            ground_truth,
            solution_str,
            solutions,
            verdicts,
            grader=grader["name"],
            leak_policy=grader["leak"],
            solver_sampling=sampling_in_words(temperature, solutions[0].seed, max_tokens),
            asked_at=asked_at.isoformat(),
            solver_s=answered - asked,
            grader_s=graded_at - answered,
            baseline=math.nan if (known := extra_info.get("baseline")) is None else known,
            guideline_tokens=float(extra_info.get("guideline_tokens", math.nan)),
        )
        return {"score": rows[0].score, "acc": sum(row.acc for row in rows) / len(rows), "graded": dump(rows)}


def sampling_in_words(temperature: float, seed: int | None, max_tokens: int) -> str:
    """Return how solutions were sampled, as a text: verl would average numbers and log them as metrics."""
    seeded = "no seed" if seed is None else f"seed {seed}"
    return f"temperature {temperature:g}, {seeded}, at most {max_tokens} tokens"


def reward(share_right: float, leak: bool, leak_policy: str) -> float:
    """Return the reward of a guideline: the share of right solutions, or 0 for a leak under the policy `zero`.

    Args:
        share_right: right solutions over all solutions to this guideline.
        leak: whether the guideline contains the gold answer.
        leak_policy: one of `leak.POLICIES`.
    """
    return 0.0 if leak and leak_policy == "zero" else share_right


def graded_rows(
    problem_id: str,
    question: str,
    gold: str,
    guideline: str,
    solutions: Sequence[Solution],
    verdicts: Sequence[Mapping[str, Verdict]],
    *,
    grader: str,
    leak_policy: str,
    solver_sampling: str,
    asked_at: str,
    solver_s: float,
    grader_s: float,
    baseline: float = math.nan,
    guideline_tokens: float = math.nan,
) -> list[GradedRow]:
    """Return a rollout's graded rows, one for each solution, each with the rollout's reward.

    Args:
        problem_id, question, gold: the problem.
        guideline: the planner's text.
        solutions: the solver's texts.
        verdicts: each solution's verdicts by grader; those of `grader` are all decided.
        grader: the grader whose verdicts make the reward.
        leak_policy: one of `leak.POLICIES`.
        solver_sampling, asked_at, solver_s, grader_s, baseline, guideline_tokens: see `GradedRow`.
    """
    leak = leaks(question, guideline, gold)
    right = [given[grader].correct for given in verdicts]
    score = reward(sum(right) / len(right), leak, leak_policy)
    return [
        GradedRow(
            problem_id=problem_id,
            question=question,
            gold=gold,
            guideline=guideline,
            guideline_leak=float(leak),
            solution=solution.text,
            solution_tokens=solution.tokens,
            solution_truncated=float(solution.truncated),
            correct={name: float(verdict.correct) for name, verdict in given.items()},
            reason=given[grader].reason,
            acc=float(given[grader].correct),
            score=score,
            solver_sampling=solver_sampling,
            asked_at=asked_at,
            solver_s=solver_s,
            grader_s=grader_s,
            baseline=baseline,
            guideline_tokens=guideline_tokens,
            sample=sample,
        )
        for sample, (solution, given) in enumerate(zip(solutions, verdicts, strict=True))
    ]
