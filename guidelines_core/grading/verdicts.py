"""The graders, and the verdicts that they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from guidelines_core.grading.equality import math_equal, quick_equal
from guidelines_core.grading.exact import text_equal


class Reason(str, Enum):
    """Why a verdict is what it is. `SOLVER_ERROR` is the reward path's own and not produced here."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    GOLD_UNPARSEABLE = "gold_unparseable"
    TIMEOUT = "timeout"  # the deadline or the memory limit
    GRADER_ERROR = "grader_error"
    SOLVER_ERROR = "solver_error"


@dataclass(frozen=True)
class Verdict:
    """A grader's judgement of one solution; `reason` is the value of a `Reason`."""

    correct: bool
    reason: str


Judge = Callable[[str, str], bool | None]  # of gold and answer; None: the gold is not understood


@dataclass(frozen=True)
class Grader:
    """How a kind of grader judges the text of a gold and of a final answer.

    Attributes:
        at_once: called in the caller's own thread, so it must be quick whatever it is given.
        in_process: asked where `at_once` is missing or answers None; runs in a child that is killed at the deadline.
    """

    at_once: Judge | None = None
    in_process: Judge | None = None


GRADERS = {
    "math_verify": Grader(at_once=quick_equal, in_process=math_equal),
    "exact_match": Grader(at_once=text_equal),
}


def verdict_of(reason: Reason) -> Verdict:
    """Return the verdict that a reason stands for."""
    return Verdict(reason is Reason.CORRECT, reason.value)


def judged(equal: bool | None) -> Verdict:
    """Return the verdict of a judge's answer; None says that the gold is not understood."""
    return verdict_of(Reason.GOLD_UNPARSEABLE if equal is None else Reason.CORRECT if equal else Reason.WRONG)
