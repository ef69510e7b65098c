"""The prompts of planner and solver, with a version.

A run records `VERSION` and its style. The version is a digest of the texts, so runs with different prompts differ in
it, and data sets that were prepared with other prompts are not used.
"""

from __future__ import annotations

from typing import TypedDict

from guidelines_core.digests import text_sha256

STYLES = ("instruct", "few_shot")
"""`instruct` instructs a capable model; `few_shot` gives a very small one examples as chat turns."""


class Message(TypedDict):
    """One turn of a chat in the form that chat templates and OpenAI-style servers take."""

    role: str
    content: str


PLANNER_INSTRUCTION = (
    "Read the problem and write a short guideline for solving it: name the idea and the steps, "
    "in one or two sentences. Do not compute and do not give the answer.\n\nProblem: {question}"
)

SOLVER_INSTRUCTION = (
    "Problem: {question}\n\nGuideline: {guideline}\n\n"
    "Solve the problem. Reason step by step and put the final answer in \\boxed{{}}."
)

_GUIDELINE = "Guideline: {guideline}\n\n"

PLANNER_TASK = "Guide."
PLANNER_CUE = "Add or multiply?"
SOLVER_TASK = "Put the answer in \\boxed{}."

EXAMPLES = (
    ("Tom has 3 pens and buys 2. How many?", "Add both numbers.", "3 + 2 = 5. \\boxed{5}"),
    ("6 boxes of 4 cakes. How many?", "Multiply both numbers.", "6 * 4 = 24. \\boxed{24}"),
)
"""Question, guideline and solution; the solver's chat has the first example only.

The solutions compute before the box: SmolLM2-135M rarely gets a number right that it writes directly into a box.
"""

_TEXTS = (PLANNER_INSTRUCTION, SOLVER_INSTRUCTION, PLANNER_TASK, PLANNER_CUE, SOLVER_TASK, EXAMPLES)
VERSION = text_sha256(repr(_TEXTS))[:12]


def planner_messages(question: str, style: str = "instruct") -> list[Message]:
    """Return the chat that asks the planner for a guideline on `question`."""
    if style == "instruct":
        return [{"role": "user", "content": PLANNER_INSTRUCTION.format(question=question)}]
    turns = [(f"{example}\n{PLANNER_CUE}", guideline) for example, guideline, _ in EXAMPLES]
    return _shown(PLANNER_TASK, turns, f"{question}\n{PLANNER_CUE}")


def solver_messages(question: str, guideline: str | None, style: str = "instruct") -> list[Message]:
    """Return the chat that asks the solver to answer `question` with the help of `guideline`.

    With None the chat has no guideline; the worth of guidelines is measured against it.
    """
    if style == "instruct":
        asked = SOLVER_INSTRUCTION if guideline is not None else SOLVER_INSTRUCTION.replace(_GUIDELINE, "")
        return [{"role": "user", "content": asked.format(question=question, guideline=guideline)}]
    turns = [(_with(example, shown if guideline is not None else None), solution) for example, shown, solution in
             EXAMPLES[:1]]  # fmt: skip
    return _shown(SOLVER_TASK, turns, _with(question, guideline))


def _with(question: str, guideline: str | None) -> str:
    return question if guideline is None else f"{question}\n{guideline}"


def _shown(task: str, turns: list[tuple[str, str]], last: str) -> list[Message]:
    """Return a chat of a task, answered examples and the question that is open."""
    chat: list[Message] = [{"role": "system", "content": task}]
    for asked, answered in turns:
        chat += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*chat, {"role": "user", "content": last}]
