from __future__ import annotations

import re

import pytest

from guidelines_core.prompts import EXAMPLES, STYLES, planner_messages, solver_messages


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
def test_without_a_guideline_the_solver_is_asked_the_same_otherwise(style: str) -> None:
    bare = solver_messages("How far is it?", None, style)
    given = solver_messages("How far is it?", "Add both legs.", style)
    assert len(bare) == len(given)
    said, without = str(given), str(bare)
    for guideline in ("Guideline: Add both legs.\\n\\n", "\\nAdd both legs.", f"\\n{EXAMPLES[0][1]}"):
        said = said.replace(guideline, "")
    assert without == said
    assert "uideline" not in without
    assert "legs" not in without


@pytest.mark.parametrize("style", STYLES)
def test_the_solver_is_told_to_box_its_answer(style: str) -> None:
    assert "\\boxed{}" in solver_messages("q", "g", style)[0]["content"]


def test_the_planner_is_never_shown_an_answer_that_its_example_asks_for() -> None:
    chat = planner_messages("q", "few_shot")
    shown = [turn["content"] for turn in chat if turn["role"] == "assistant"]
    assert shown == [guideline for _, guideline, _ in EXAMPLES]
    for guideline in shown:
        assert not re.search(r"\d", guideline)


def test_a_shown_solution_computes_before_it_boxes_the_right_number() -> None:
    for _, _, solution in EXAMPLES:
        left, sign, right, result, boxed = re.findall(r"\d+|[+*]", solution)
        expected = int(left) + int(right) if sign == "+" else int(left) * int(right)
        assert int(result) == int(boxed) == expected
        assert solution.endswith(f"\\boxed{{{boxed}}}")
