"""Which text is a solution's answer, and which texts are the same."""

from __future__ import annotations

import time

import pytest

from guidelines_core.grading.exact import normalise, text_equal
from guidelines_core.grading.extract import final_answer, gold_text
from tests.support.hostile import HOSTILE


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so $x=\boxed{18}$.", "18"),
        (r"\fbox{18} it is", "18"),
        (r"\boxed {18}", "18"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\text{a \{ b}}", r"\text{a \{ b}"),
        (r"First \boxed{3}. Wait, that is wrong. So \boxed{4} it is, not 3.", "4"),
        (r"$x = \boxed{\frac{8}{2}}$, in \boxed{}", r"\frac{8}{2}"),
        (r"\boxed{3} or \boxed{4}", "3, 4"),
        (r"\boxed{3}, \boxed{4}", "3, 4"),
        (r"\boxed{3}\boxed{4}", "3, 4"),
        (r"\boxed{4}, that is \boxed{4}", "4"),
        (r"\boxed{3, \boxed{4}}", "3, {4}"),
        (r"\boxed{4} but in fact \boxed{5", None),
        (r"\boxed{" + "1" * 2001 + "}", None),
        ("The answer is 18.", "18"),
        ("The answer is 4. No, the answer is 5!", "5"),
        ("The final answer is: $18$ apples", "18"),
        ("The answer is 17 or 18.", "17 or 18"),
        ("The answer is not 18.", "not 18"),
        ("We have 3 times 6, which makes 18", "18"),
        ("Hence $x=3$ and $y=4$", "y=4"),
        ("It costs 4 * $9 = $36. So they pay **$36**.", "36"),
        ("3 + 4 = <<3+4=7>>7 pears for $2 each.\n#### 7", "7"),
        ("I do not know", None),
        ("", None),
    ],
)
def test_final_answer(solution: str, answer: str | None) -> None:
    assert final_answer(solution) == answer


@pytest.mark.parametrize(
    ("gold", "text"),
    [("18", "18"), (r"\boxed{18}", "18"), (r"it is \boxed{18}", "18"), (" 18 ", "18"), ("", None), ("1" * 2001, None)],
)
def test_gold_text(gold: str, text: str | None) -> None:
    assert gold_text(gold) == text


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("1000", "1,000", True),
        ("1,000", "1{,}000", True),
        ("1234567", r"1\,234\,567", True),
        ("1234567", "1 234 567", True),
        ("34", "3 4", False),
        ("34", "3$4", False),
        (r"\frac12", r"\dfrac{1}{2}", True),
        (r"\frac{1}{2}", "1/2", False),
        ("5", r"\$5", True),
        ("$5$", "5", True),
        (r"336^\circ", "336", True),
        (r"\{1,2\}", r"\left\{1, 2\right\}", True),
        (r"\{1,2\}", r"\{2,1\}", False),
        ("1,2", r"1 \text{ and } 2", True),
        (r"\emptyset", r"\varnothing", True),
        ("[1,2]", r"x \in [1,2]", True),
        ("[1,2]", "(1,2)", False),
        (r"\text{Monday}", "Monday", True),
        ("18", "18.0", False),
        ("18", "-18", False),
        ("x^2", "x^{2}", False),
        ("18", "", False),
    ],
)
def test_text_equal(gold: str, answer: str, same: bool) -> None:
    assert text_equal(gold, answer) is same


def test_search_for_the_answer_is_linear() -> None:
    for name, solution in HOSTILE.items():
        start = time.process_time()
        for _ in range(4):
            text_equal("4", final_answer(solution) or "")
        assert time.process_time() - start < 0.4, name
    assert final_answer(HOSTILE["many boxes"]) == "3"


def test_one_spelling_is_kept_when_normalised_again() -> None:
    for latex in (r"\dfrac12", "1,234", "1e-3", r"\$5", r"x \text{ or } y", r"\left(0, \frac{\pi}{2}\right]"):
        assert normalise(normalise(latex)) == normalise(latex)
