"""The planner's and the solver's prompts, versioned.

A run records `VERSION`; whoever changes a template's meaning raises it, so that two runs with other prompts
are never compared as if they had the same ones.
"""

from __future__ import annotations

from typing import TypedDict

VERSION = "1"


class Message(TypedDict):
    """One turn of a chat in the form that chat templates and OpenAI-style servers take."""

    role: str
    content: str


PLANNER_TEMPLATE = (
    "Read the problem and write a short guideline for solving it: name the idea and the steps, "
    "in one or two sentences. Do not compute and do not give the answer.\n\nProblem: {question}"
)

SOLVER_TEMPLATE = (
    "Problem: {question}\n\nGuideline: {guideline}\n\n"
    "Solve the problem. Reason briefly and put the final answer in \\boxed{{}}."
)


def planner_messages(question: str) -> list[Message]:
    """Return the chat that asks the planner for a guideline on `question`."""
    return [{"role": "user", "content": PLANNER_TEMPLATE.format(question=question)}]


def solver_messages(question: str, guideline: str) -> list[Message]:
    """Return the chat that asks the solver to answer `question` with the help of `guideline`."""
    return [{"role": "user", "content": SOLVER_TEMPLATE.format(question=question, guideline=guideline)}]
