from __future__ import annotations

import pytest

from guidelines_core.prompts import STYLES, planner_messages, solver_messages


@pytest.mark.parametrize("style", STYLES)
def test_the_last_turn_asks_the_question_at_hand(style: str) -> None:
    planner = planner_messages("How far is it?", style)[-1]
    assert planner["role"] == "user"
    assert "How far is it?" in planner["content"]
    solver = solver_messages("How far is it?", "Add {both} legs.", style)[-1]
    assert solver["role"] == "user"
    assert "How far is it?" in solver["content"]
    assert "Add {both} legs." in solver["content"]


@pytest.mark.parametrize("style", STYLES)
def test_the_solver_is_told_to_box_its_answer(style: str) -> None:
    assert "\\boxed{}" in solver_messages("q", "g", style)[0]["content"]
