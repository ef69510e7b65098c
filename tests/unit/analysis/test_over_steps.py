from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.pages import over_steps
from analysis.pages.over_steps import chosen_problems, chosen_steps, words_changed
from analysis.pages.page import changes


def test_the_first_the_middle_and_the_last_validation_are_compared() -> None:
    assert chosen_steps([50, 0, 100, 0]) == [0, 50, 100]
    assert chosen_steps([0, 5]) == [0, 5]
    assert chosen_steps([3]) == [3]
    assert chosen_steps([]) == []


def test_problems_whose_verdict_changed_come_first_and_those_without_one_are_left_out() -> None:
    verdicts = pd.DataFrame({0: [1.0, 0.0, 0.0, None], 9: [1.0, 0.0, 1.0, 1.0]}, index=["a", "b", "c", "d"])
    assert chosen_problems(verdicts) == ["c", "a", "b"]


def test_changed_words_are_marked_and_a_models_text_is_escaped() -> None:
    pieces = words_changed("Add both numbers.", "Add <b>all</b> numbers.")
    assert pieces == [("same", "Add "), ("removed", "both "), ("added", "<b>all</b> "), ("same", "numbers.")]
    assert changes(pieces) == "Add <del>both </del><ins>&lt;b&gt;all&lt;/b&gt; </ins>numbers."


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_what_is_not_removed_is_the_new_text_and_what_is_not_added_the_old_one(old: list[str], new: list[str]) -> None:
    pieces = words_changed(" ".join(old), " ".join(new))
    after = "".join(words for kind, words in pieces if kind != "removed")
    before = "".join(words for kind, words in pieces if kind != "added")
    assert after == " ".join(new)
    assert before.split() == old


def test_a_problem_is_a_card_with_its_guideline_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame(
        {"step": step, "problem_id": "p", "question": "How many?", "gold": "7", "guideline": guideline, "acc": acc,
         "rollout": rollout, "sample": 0}
        for step, guideline, acc in ((0, "Count.", 0.0), (5, "Count all.", 0.0), (9, "Count all twice.", 1.0))
        for rollout in (0, 1)
    )  # fmt: skip
    monkeypatch.setattr(over_steps, "rows", lambda run, kind, columns: rows)
    (card,) = over_steps.over_steps(None)  # type: ignore[arg-type]
    assert "How many? (gold: 7)" in card
    for words in ("step 0: wrong", "step 9: right", "<ins>all twice.</ins>"):
        assert words in card
    assert card.count("<pre>") == 3
    monkeypatch.setattr(over_steps, "rows", lambda run, kind, columns: rows[rows["step"] == 0])
    assert over_steps.over_steps(None) == []  # type: ignore[arg-type]
