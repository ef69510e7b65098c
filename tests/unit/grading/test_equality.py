"""What equals what: guards, units and golds; the corpus itself is graded in test_grading.py."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from guidelines_core.grading.equality import MAX_CHECKED_GOLD, gold_parses, math_equal, quick_equal
from guidelines_core.grading.exact import text_equal
from guidelines_core.grading.extract import final_answer
from tests.support.hostile import HOSTILE

# What a solution may put between two candidates in the hope that one of them, or a mix, counts.
JOINERS = r"""
, ; | / \vee \lor \to \implies \quad \qquad \\ & \& or \text{or} \text{~or~} \mathrm{or} and \cup \cap
\neq < > \le \approx \equiv \sim \mid \parallel \pm \mp : = ,x= =x= \text{not} ,\ldots, \text{or}~x= \, \;
~ \newline $ $,$ \} \text{~cm~} \% \%~or~ ' '' \Rightarrow \iff vs aka <br> \hline ~=~ \neg \ne !=
"""


@pytest.mark.parametrize("joiner", JOINERS.split())
def test_two_candidates_in_one_box_are_no_answer_to_a_single_gold(joiner: str) -> None:
    answer = rf"3 {joiner} 4"
    golds = ("3", "4", "7", "12", "34", "x=3", "x = 4")
    assert [gold for gold in golds if math_equal(gold, answer) or text_equal(gold, answer)] == []


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("18", "18.0", True),
        ("18", "19", False),
        (r"\frac{1}{2}", "0.5", True),
        ("1.0000001", "1.0000002", False),
        (r"\frac{2}{3}", "0.666667", True),
        (r"\frac{2}{3}", "0.67", False),
        (r"3\text{ cm}", r"30\text{ mm}", None),
        (r"\frac{ab}{2}", r"\frac{ab}{2}", True),
        (r"\frac{1}{2}ab", r"\frac{ab}{2}", None),
        ("18", r"\frac{1}{0}", None),
        ("18", "9" * 100, None),
        ("B", "B", True),
        ("B", "(B)", None),
    ],
)
def test_quick_equal_decides_numbers_and_equal_texts_only(gold: str, answer: str, equal: bool | None) -> None:
    assert quick_equal(gold, answer) is equal


def test_quick_equal_is_quick() -> None:
    for name, solution in HOSTILE.items():
        start = time.process_time()
        quick_equal("4", final_answer(solution) or "")
        assert time.process_time() - start < 0.3, name


@pytest.mark.parametrize(
    ("gold", "parses"),
    [
        ("18", True),
        ("-0.25", True),
        (r"3\text{ cm}", True),
        (r"\textbf{(B)}\ 12", True),
        (r"\text{Monday}", True),
        (r"\left(0, \frac{\pi}{2}\right]", True),
        ("", False),
        ("\\", False),
        (r"\boxed{\frac{}", False),
        ("1" + "+1" * (MAX_CHECKED_GOLD // 2), False),
        ("(" * MAX_CHECKED_GOLD, False),
    ],
)
def test_gold_parses(gold: str, parses: bool) -> None:
    assert gold_parses(gold) is parses


def test_plain_golds_need_no_math_verify_and_others_print_nothing() -> None:
    code = (
        "import sys; from guidelines_core.grading.equality import gold_parses\n"
        "gold_parses('18'); print(*{'math_verify', 'sympy'} & set(sys.modules))\n"
        "print(gold_parses('x+1'), gold_parses(r'\\frac{'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True", "False"]
    assert done.stderr == ""
