"""Which answer a solution has, what equals what, and which golds can be graded."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hostile import HOSTILE

from guidelines_core.answers import (
    MAX_CHECKED_GOLD,
    final_answer,
    gold_parses,
    gold_text,
    math_equal,
    text_equal,
)

# kind, gold, solution (put into a box, unless it has one or is of the kind "no box"), then the verdicts of
# math-verify and of text equality: + correct, - wrong, 0 no answer, ? gold unparseable
CASES = [
    ("number", "18", "18", "+", "+"),
    ("number", "18", "19", "-", "-"),
    ("number", "18", "-18", "-", "-"),
    ("number", "18", "18.0", "+", "-"),
    ("number", "1000", "1,000", "+", "+"),
    ("number", "1,000", "1{,}000", "+", "+"),
    ("number", "1234567", r"1\,234\,567", "+", "+"),
    ("number", "1000", "1,001", "-", "-"),
    ("number", "100", "1e2", "+", "-"),
    ("number", "0.001", "1e-3", "+", "-"),
    ("number", "0.0000001", "0.0000002", "-", "-"),
    ("number", r"\frac{1}{3}", "0.333333", "+", "-"),
    ("number", r"\frac{1}{3}", "0.33", "-", "-"),
    ("number", r"\boxed{18}", "18", "+", "+"),
    ("fraction", r"\frac{1}{2}", "0.5", "+", "-"),
    ("fraction", "0.5", r"\frac12", "+", "-"),
    ("fraction", r"\frac12", r"\dfrac{1}{2}", "+", "+"),
    ("fraction", r"\frac{1}{2}", "1/2", "+", "-"),
    ("fraction", r"\frac{1}{2}", r"\frac{2}{1}", "-", "-"),
    ("mixed number", r"\frac{3}{2}", r"1\frac{1}{2}", "+", "-"),
    ("mixed number", "7", "3 4", "-", "-"),
    ("percent", r"50\%", "0.5", "+", "-"),
    ("percent", r"50\%", r"\frac12", "+", "-"),
    ("percent", r"50\%", r"50\%", "+", "+"),
    ("percent", r"50\%", "50", "+", "-"),
    ("percent", "0.5", r"50\%", "+", "-"),
    ("percent", r"50\%", "5", "-", "-"),
    ("percent", r"50\%", r"0.5\%", "-", "-"),
    ("money", "5", r"\$5", "+", "+"),
    ("money", r"\$5", "5", "+", "+"),
    ("money", "5", "$6", "-", "-"),
    ("unit", "3", r"3\text{ cm}", "+", "-"),
    ("unit", "3", "3 cm", "+", "-"),
    ("unit", r"3\text{ cm}", "3", "+", "-"),
    ("unit", r"12\text{ cm}^2", r"12 \mathrm{cm}^{2}", "+", "-"),
    ("unit", r"3\text{ cm}", r"3\text{ m}", "-", "-"),
    ("unit", r"3\text{ cm}", r"3\text{ centimeters}", "+", "-"),
    ("degrees", r"336^\circ", "336", "+", "+"),
    ("degrees", "336", r"336^{\circ}", "+", "+"),
    ("degrees", r"336^\circ", r"335^\circ", "-", "-"),
    ("equation", "3", "x = 3", "+", "-"),
    ("equation", "x=3", "3", "+", "-"),
    ("equation", "x=3", "y=3", "-", "-"),
    ("equation", "3", r"\frac{6}{2} = 3", "+", "-"),
    ("equation", "4", "3=4", "-", "-"),
    ("equation", "4", "x=3=4", "-", "-"),
    ("equation", "y=2x+1", "y=1+2x", "+", "-"),
    ("set", r"\{1,2\}", r"\{2,1\}", "+", "-"),
    ("set", r"\{1,2\}", r"\left\{1, 2\right\}", "+", "+"),
    ("set", r"\{1,2\}", r"\{1,2,3\}", "-", "-"),
    ("set", r"\{1,2\}", "(1,2)", "-", "-"),
    ("set", "1,2", "2, 1", "+", "-"),
    ("set", "1,2", r"1 \text{ and } 2", "+", "+"),
    ("set", r"\pm 4", "4, -4", "+", "-"),
    ("set", r"\emptyset", r"\varnothing", "+", "+"),
    ("set", r"\emptyset", r"\{1\}", "-", "-"),
    ("tuple", "(1,2)", "(1, 2)", "+", "+"),
    ("tuple", "(1,2)", "(2,1)", "-", "-"),
    ("tuple", "(1,2)", r"\{1,2\}", "-", "-"),
    ("tuple", r"(3, \frac{\pi}{2})", r"\left( 3, \dfrac{\pi}{2} \right)", "+", "+"),
    ("interval", r"[1,\infty)", r"\left[1, \infty\right)", "+", "+"),
    ("interval", "[1,2]", "(1,2)", "-", "-"),
    ("interval", "[1,2]", r"x \in [1,2]", "+", "+"),
    ("interval", r"(-\infty,0)\cup(1,\infty)", r"(-\infty, 0) \cup (1, \infty)", "+", "+"),
    ("interval", r"(-\infty,0)\cup(1,\infty)", r"(-\infty,1)", "-", "-"),
    (
        "matrix",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}",
        "+",
        "-",
    ),
    ("matrix", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\4&3\end{pmatrix}", "-", "-"),
    ("expression", r"\sqrt{8}", r"2\sqrt{2}", "+", "-"),
    ("expression", "x^2+2x+1", "(x+1)^2", "+", "-"),
    ("expression", "x^2+1", "y^2+1", "-", "-"),
    ("expression", r"10!", "3628800", "+", "-"),
    ("expression", r"\infty", r"-\infty", "-", "-"),
    ("complex", "3+4i", "4i+3", "+", "-"),
    ("complex", "3+4i", "3-4i", "-", "-"),
    ("text", r"\text{Monday}", "Monday", "+", "+"),
    ("text", r"\text{dog}", r"\text{god}", "-", "-"),
    ("choice", "B", r"\text{(B)}", "+", "-"),
    ("choice", "B", r"\textbf{(B)}\ 12", "+", "-"),
    ("choice", "12", r"\textbf{(B)}\ 12", "+", "-"),
    ("choice", "B", "(C)", "-", "-"),
    ("choice", "B", "(A) 3 (B) 12 (C) 7", "-", "-"),
    ("choice", "B", "(B) 12 (C) 7", "-", "-"),
    ("candidates", "4", r"\boxed{3} or \boxed{4}", "-", "-"),
    ("candidates", "4", r"\boxed{3}, \boxed{4}", "-", "-"),
    ("candidates", "4", r"\boxed{3, \boxed{4}}", "-", "-"),
    ("candidates", "4", "x=3, x=4", "-", "-"),
    ("candidates", "3,4", r"\boxed{3} and \boxed{4}", "+", "+"),
    ("last box", "4", r"First \boxed{3}. Wait, that is wrong. So \boxed{4} it is, not 3.", "+", "+"),
    ("last box", "3", r"First \boxed{3}. Wait, that is wrong. So \boxed{4} it is, not 3.", "-", "-"),
    ("last box", "4", r"$x = \boxed{\frac{8}{2}}$, in \boxed{}", "+", "-"),
    ("last box", "4", r"\boxed{4} but in fact \boxed{5", "0", "0"),
    ("no box", "18", "The answer is 18.", "+", "+"),
    ("no box", "18", "The final answer is: $18$ apples", "+", "+"),
    ("no box", "18", "We have 3 times 6, which makes 18", "+", "+"),
    ("no box", "18", "The answer is 17 or 18.", "-", "-"),
    ("no box", "18", "I do not know", "0", "0"),
    ("no box", "18", "", "0", "0"),
    ("gold", r"\text{", "4", "?", "-"),
    ("gold", r"\frac{", "4", "?", "-"),
    ("gold", "", "4", "?", "?"),
]
SIGNS = {True: "+", False: "-", None: "?"}
# What a solution may put between two candidates in the hope that one of them, or a mix, counts.
JOINERS = r"""
, ; | / \vee \lor \to \implies \quad \qquad \\ & \& or \text{or} \text{~or~} \mathrm{or} and \cup \cap
\neq < > \le \approx \equiv \sim \mid \parallel \pm \mp : = ,x= =x= \text{not} ,\ldots, \text{or}~x= \, \;
~ \newline $ $,$ \} \text{~cm~} \% \%~or~ ' '' \Rightarrow \iff vs aka <br> \hline ~=~ \neg \ne !=
"""


def judge(gold: str, solution: str) -> tuple[str, str]:
    """Return the signs that `CASES` has for math-verify and text equality."""
    wanted, answer = gold_text(gold), final_answer(solution)
    if wanted is None:
        return "?", "?"
    if answer is None:
        return "0", "0"
    return SIGNS[math_equal(wanted, answer)], SIGNS[text_equal(wanted, answer)]


@pytest.mark.parametrize(("kind", "gold", "solution", "math_verify", "exact"), CASES)
def test_verdict_of_case(kind: str, gold: str, solution: str, math_verify: str, exact: str) -> None:
    if kind != "no box" and "\\boxed" not in solution:
        solution = rf"So $x$ is $\boxed{{{solution}}}$, as 1 + 1 = 2."
    assert judge(gold, solution) == (math_verify, exact)
    assert gold_parses(gold) == (math_verify != "?")


@pytest.mark.parametrize("joiner", JOINERS.split())
def test_two_candidates_in_one_box_are_no_answer_to_a_single_gold(joiner: str) -> None:
    solution = rf"\boxed{{3 {joiner} 4}}"
    golds = ("3", "4", "7", "12", "34", "x=3", "x = 4")
    assert [gold for gold in golds if "+" in judge(gold, solution)] == []


def test_search_for_the_answer_is_linear() -> None:
    for name, solution in HOSTILE.items():
        start = time.monotonic()
        for _ in range(4):
            text_equal("4", final_answer(solution) or "")
        assert time.monotonic() - start < 0.4, name
    assert final_answer(HOSTILE["many boxes"]) == "3"


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
        "import sys; from guidelines_core.answers import gold_parses\n"
        "gold_parses('18'); print(*{'math_verify', 'sympy'} & set(sys.modules))\n"
        "print(gold_parses('x+1'), gold_parses(r'\\frac{'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True", "False"]
    assert done.stderr == ""
