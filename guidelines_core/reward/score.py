"""verl's reward function: the solver answers with the guideline's help, the grader says whether it is right."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from guidelines_core.grading.pool import GradingPool, Reason
from guidelines_core.prompts import solver_messages
from guidelines_core.reward.leak import leaks, reward
from guidelines_core.solver.client import Solver, SolverError

DECIDED = frozenset(reason.value for reason in (Reason.CORRECT, Reason.WRONG, Reason.NO_ANSWER))

RAISED = "reward_error"
"""The reason where the reward function raised something that nobody foresaw."""

ungraded: Counter[str] = Counter()
"""Rollouts of this process that got no verdict, by reason; the trainer takes the counts after each step."""


class RewardUnavailable(RuntimeError):
    """No verdict could be had for a rollout; its reward is unknown, not 0."""


_solver: Solver | None = None
_addresses: list[str] | None = None


def solver_client(addresses: str, settings: dict[str, Any], workers: int) -> Solver:
    """Return this process's one solver client; one client keeps its connections and answers between steps.

    Args:
        addresses: `host:port` of each server, comma-separated, as they were at the start.
        settings: the section `guidelines.solver`.
        workers: reward workers, which share the places at the servers fairly.
    """
    global _solver
    if _solver is None:
        _solver = Solver(
            _addresses or addresses.split(","),
            settings["model"],
            max_tokens=settings["max_tokens"],
            max_concurrency=settings["max_concurrency"] // workers,
            deadline_s=settings["deadline_s"],
            step_deadline_s=settings["step_deadline_s"],
            seed=settings["seed"],
            ignore_eos=settings["ignore_eos"],
        )
    return _solver


def relocate(addresses: list[str]) -> None:
    """Ask the solver at these addresses from now on; a server that was started again has a new one."""
    global _addresses
    _addresses = addresses
    if _solver is not None:
        _solver.relocate(addresses)


def take_counts() -> Counter[str]:
    """Return what was counted in this process since the last call, and count from nothing again.

    The rollouts without verdict as `ungraded_REASON`, and the client's `asked`, `cache_hits`, `retries` and
    `most_in_flight`.
    """
    counts = Counter({f"ungraded_{reason}": count for reason, count in ungraded.items()})
    ungraded.clear()
    if _solver is not None:
        counts.update(_solver.counts, most_in_flight=_solver.most_in_flight)
        _solver.counts.clear()
        _solver.most_in_flight = 0
    return counts


@lru_cache(maxsize=1)
def _pool(workers: int, deadline_s: float, memory_mb: int) -> GradingPool:
    """Return this process's one pool of grading processes."""
    return GradingPool(workers=workers, deadline=deadline_s, memory_mb=memory_mb)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any],
    reward_router_address: str,
    reward_model_tokenizer: object = None,
    *,
    solver: dict[str, Any],
    grader: dict[str, Any],
    prompts: dict[str, Any],
    workers: int = 1,
) -> dict[str, Any]:
    """Grade one rollout: `solution_str` is the planner's guideline, `ground_truth` the gold answer.

    verl calls this in a reward worker's event loop (`verl/experimental/reward_loop/reward_manager/naive.py`),
    for every rollout as soon as its guideline is written, while others are still being generated.

    Returns:
        `score` (1.0 or 0.0) and the whole graded row, which verl keeps beside the rollout.

    Raises:
        RewardUnavailable: the solver gave no answer or the grader no verdict. verl drops the rollout.
    """
    question = extra_info["question"]
    client = solver_client(reward_router_address, solver, workers)
    pool = _pool(grader["workers"], grader["deadline_s"], grader["memory_mb"])
    temperature = solver["val_temperature"] if extra_info["split"] == "val" else solver["temperature"]

    asked_at, asked = datetime.now(timezone.utc), time.monotonic()
    try:
        solution = await client.solve(
            solver_messages(question, solution_str, prompts["style"]), temperature=temperature
        )
    except SolverError as error:
        ungraded[Reason.SOLVER_ERROR.value] += 1
        raise RewardUnavailable(f"problem {extra_info['problem_id']}: {error}") from error
    answered = time.monotonic()
    verdicts = await pool.grade(ground_truth, solution.text)
    graded = time.monotonic()
    verdict = verdicts[grader["name"]]
    if verdict.reason not in DECIDED:
        ungraded[verdict.reason] += 1
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
        "solver_sampling": f"temperature {temperature:g}, seed {solution.seed}, at most {solver['max_tokens']} tokens",
        "asked_at": asked_at.isoformat(),
        "solver_s": answered - asked,
        "grader_s": graded - answered,
    }
