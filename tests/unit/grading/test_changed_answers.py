"""What one change must do to a verdict: another sign, order, bracket, relation, unit or word makes an answer wrong."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guidelines_core.grading.choices import choice_in, letters_in
from guidelines_core.grading.clean import plain
from guidelines_core.grading.equality import math_equal
from guidelines_core.grading.extract import gold_text
from guidelines_core.grading.reading.nodes import is_value
from guidelines_core.grading.reading.parser import read
from guidelines_core.grading.units import factors, unit_of
from tests.support.corpus import corpus

QUICKLY = settings(max_examples=80)
GOLDS = sorted({gold for case in corpus() if (gold := gold_text(case.gold)) and len(gold) < 60})
MATHEMATICS = [gold for gold in GOLDS if choice_in(gold) is None and not letters_in(gold) and r"\text" not in gold]
VALUES = [gold for gold in MATHEMATICS if (node := read(plain(gold))) and is_value(node) and "=" not in gold]
UNITS = ["cm", "kg", "s", "L", "dollars", "degrees", "km/h", "cm^2", "N"]
whole = st.integers(2, 99)


@QUICKLY
@given(
    st.sampled_from(GOLDS), st.sampled_from(["not", "about", "more than", "less than", "at most", "twice", "half of"])
)
def test_a_word_that_denies_or_limits_makes_a_gold_wrong(gold: str, words: str) -> None:
    assume(not gold.lower().removeprefix(r"\text{").startswith(("not", "no", "more", "less", "about", "at ")))
    assert not math_equal(gold, rf"\text{{{words} }}{plain(gold)}"), gold


@QUICKLY
@given(
    st.sampled_from(MATHEMATICS),
    st.sampled_from([", 13", r" \text{ or } 13", r" \text{ and } 13", "; 13", r"\quad 13"]),
)
def test_one_value_more_makes_a_gold_wrong(gold: str, more: str) -> None:
    assume("13" not in gold and not gold.endswith(("}", ".")) and "dots" not in gold)
    assert not math_equal(gold, plain(gold) + more), (gold, more)


@QUICKLY
@given(st.sampled_from(VALUES))
def test_the_other_sign_or_one_more_makes_a_value_wrong(gold: str) -> None:
    assume(
        not re.search(r"\\pm|\\infty|emptyset|varnothing|mathbb|dots|\\mp|_\{?\d|^\.?0*$|^C", gold) and "R" not in gold
    )
    assert not math_equal(gold, f"({plain(gold)})+1"), gold
    if not math_equal(gold, "0") and not re.search(r"\^\{?\\circ", gold):
        assert not math_equal(gold, f"-({plain(gold)})"), gold


@QUICKLY
@given(whole, whole, st.sampled_from(["()", "[]", "(]", "[)"]), st.sampled_from(["()", "[]", "(]", "[)"]))
def test_intervals_differ_by_their_brackets(low: int, length: int, gold: str, answer: str) -> None:
    wanted, given_ = (f"{b[0]}-{low},{length}{b[1]}" for b in (gold, answer))
    signs = {"(": "<", "[": r"\le ", ")": "<", "]": r"\le "}
    inequality = f"-{low}{signs[answer[0]]}x{signs[answer[1]]}{length}"
    assert math_equal(wanted, given_) is (gold == answer)
    assert math_equal(wanted, inequality) is (gold == answer)
    assert not math_equal(wanted, inequality.replace("<", ">").replace(r"\le", r"\ge"))


@QUICKLY
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_order_counts_in_tuples_and_systems_but_not_in_lists(values: list[int], shuffled: object) -> None:
    other = list(values)
    shuffled.shuffle(other)  # type: ignore[attr-defined]
    first, second = ", ".join(map(str, values)), ", ".join(map(str, other))
    names = "abcd"
    system, wrong = (", ".join(f"{n}={v}" for n, v in zip(names, vs, strict=False)) for vs in (values, other))
    assert math_equal(f"({first})", f"({second})") is (values == other)
    assert math_equal(system, wrong) is (values == other)
    assert math_equal(first, second)
    assert not math_equal(first, f"{second}, 77")


@QUICKLY
@given(whole, st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_known_units_agree_or_convert(size: int, gold: str, answer: str) -> None:
    assert math_equal(rf"{size}\text{{ {gold}}}", rf"{size}\text{{ {answer}}}") is (gold == answer)
    assert math_equal(str(size), rf"{size}\text{{ {answer}}}")


@given(
    st.sampled_from(["mm", "cm", "m", "km", "inch", "foot"]), st.sampled_from(["mm", "cm", "m", "km", "inch", "foot"])
)
def test_conversion_and_its_inverse_cancel(first: str, second: str) -> None:
    there, back = factors(unit_of(first), unit_of(second)), factors(unit_of(second), unit_of(first))
    assert there[0] * back[0] == Fraction(1)


@QUICKLY
@given(whole, whole, whole)
def test_an_equation_of_a_curve_is_no_value(a: int, b: int, c: int) -> None:
    for equation in (
        f"{a}x+{b}y={c}",
        rf"\frac{{x^2}}{{{a}}}+\frac{{y^2}}{{{b}}}={c}",
        f"{a}x={c}",
        f"x^2-{a}x+{b}={c}",
    ):
        assert not math_equal(str(c), equation)
        assert math_equal(equation, equation.replace("+", " + "))


@pytest.mark.parametrize(
    "remark", [r" \text{ is the only solution}", r" \text{ (since } x>0)", r" \text{ is the answer}"]
)
@pytest.mark.parametrize("gold", ["n=3", "12", r"\frac{1}{2}", "f(x)=x^2"])
def test_a_remark_changes_no_verdict(gold: str, remark: str) -> None:
    assert math_equal(gold, gold + remark)
    assert not math_equal(gold, gold.replace("3", "4").replace("2", "5") + remark)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("p = 3, q = -2", r"p=3 \text{ or } q=-2"),
        ("x=3, y=4", "y=3, y=4"),
        ("A(1,0), B(0,1)", "A=(0,1), B=(1,0)"),
        (r"\{1,\{2\}\}", r"\{1,2\}"),
        ("xy=0", "x=0"),
        ("a_n=3n+1", "a_{n+1}=3n+1"),
        (r"p\land q", r"p\lor q"),
        ("8", r"\cancel{8}"),
        ("0.25", r"0.25\%"),
        ("05:00", "035:00"),
        (r"[4,\infty)", r"[4,\infty]"),
        ("4210_7", "4210_2"),
        (r"x \equiv 3 \pmod 5", r"x \equiv 3 \pmod 7"),
    ],
)
def test_what_looks_alike_is_told_apart(gold: str, answer: str) -> None:
    assert math_equal(gold, gold)
    assert not math_equal(gold, answer)
