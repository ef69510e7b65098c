"""Properties of the grader's stages: what respelling may not change, and what one changed digit must."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guidelines_core.grading.clean import plain
from guidelines_core.grading.comparing.compare import equal
from guidelines_core.grading.comparing.values import same_value
from guidelines_core.grading.equality import QUICK, STAGES, Pair, judge, math_equal, number_of
from guidelines_core.grading.extract import final_answer, gold_text
from guidelines_core.grading.reading.parser import read
from guidelines_core.grading.reading.tokens import NotRead, join_thousands, tokens_of
from tests.support.corpus import Case, corpus
from tests.support.fuzzing import TOKENS

RESPELLINGS: dict[str, Callable[[str], str]] = {
    "spaces": lambda latex: rf"\;{latex}\,",
    "braces": lambda latex: "{" + latex + "}",
    "dollars": lambda latex: f"${latex}$",
    "color": lambda latex: rf"\color{{red}}{{{latex}}}",
    "displaystyle": lambda latex: rf"\displaystyle {latex}",
    "full stop": lambda latex: f"{latex}.",
    "dfrac": lambda latex: latex.replace(r"\frac", r"\dfrac"),
    "tfrac": lambda latex: latex.replace(r"\dfrac", r"\tfrac"),
    "left and right": lambda latex: re.sub(r"(?<![\\A-Za-z])\(([^()]*)\)", r"\\left(\1\\right)", latex),
    "leq": lambda latex: re.sub(r"\\le(?![A-Za-z])", r"\\leqslant ", latex),
    "thin comma": lambda latex: re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "{,}", latex),
    "bold": lambda latex: rf"\boldsymbol{{{latex}}}",
}
CASES = [case for case in corpus() if r"\boxed" in case.solution]
SURE = settings(max_examples=300)


def correct_cases() -> list[Case]:
    return [case for case in CASES if case.verdict == "correct"]


@SURE
@given(st.sampled_from(correct_cases()), st.sampled_from(sorted(RESPELLINGS)))
def test_a_correct_verdict_survives_respelling(case: Case, name: str) -> None:
    answer = final_answer(case.solution)
    assert answer is not None
    answer, gold = plain(answer), gold_text(case.gold)
    if (name == "braces" and "," in answer) or (name == "full stop" and answer.endswith(".")):
        return  # {1,234} may be a set; 0.1666....
    assert gold is not None
    assert math_equal(gold, RESPELLINGS[name](answer)), (gold, answer)


@st.composite
def changed_by_a_digit(draw: st.DrawFn) -> tuple[Case, str, str]:
    """Return a correct case, its answer, and the answer with one digit of a plain number changed."""
    cases = [
        case for case in correct_cases() if re.fullmatch(r"[\d\\{}frac/x+^-]+", case.gold) and "=" not in case.solution
    ]
    case = draw(st.sampled_from(cases))
    answer = final_answer(case.solution) or ""
    if re.search(r"[a-z]{2}", answer.replace("frac", "")):
        return case, answer, answer  # a unit, a name
    digits = [match.start() for match in re.finditer(r"\d", answer)]
    if not digits:
        return case, answer, answer
    place = draw(st.sampled_from(digits))
    digit = draw(st.sampled_from([d for d in "123456789" if d != answer[place]]))
    return case, answer, answer[:place] + digit + answer[place + 1 :]


@SURE
@given(changed_by_a_digit())
def test_a_correct_verdict_dies_by_one_changed_digit(changed: tuple[Case, str, str]) -> None:
    case, answer, other = changed
    before, after = read(plain(answer)), read(plain(other))
    if answer == other or before is None or after is None or equal(before, after) is not False:
        return  # 0 times another number, an exponent of 1, a place beyond a rounded decimal's
    assert not math_equal(case.gold, other), (case.gold, answer, other)


whole = st.integers(-(10**6), 10**6)
fractions = st.fractions(max_denominator=999)


@given(fractions, fractions)
@example(Fraction(1, 10**20), Fraction(1, 10**21))
def test_fractions_are_compared_exactly_whatever_their_form(first: Fraction, second: Fraction) -> None:
    forms = [rf"\frac{{{first.numerator}}}{{{first.denominator}}}", f"{first.numerator}/{first.denominator}"]
    forms += [rf"{first.numerator} \cdot {first.denominator}^{{-1}}", rf"x={first.numerator}\div {first.denominator}"]
    gold = rf"\frac{{{second.numerator}}}{{{second.denominator}}}"
    for form in forms:
        assert math_equal(gold, form) is (first == second)
        assert math_equal(form, gold) is (first == second)


@given(st.integers(2, 60), st.integers(1, 400), st.integers(1, 400))
def test_powers_far_below_any_float_are_told_apart(base: int, first: int, second: int) -> None:
    gold, answer = rf"{base}^{{-{first}}}", rf"\frac{{1}}{{{base}^{{{second}}}}}"
    assert math_equal(gold, answer) is (first == second)
    assert math_equal(rf"\sqrt{{2}}+{gold}", rf"\sqrt{{2}}+{answer}") is (first == second)
    assert math_equal(rf"e^{{-{first}}}", rf"e^{{-{second}}}") is (first == second)


@SURE
@given(st.sampled_from(CASES))
def test_equality_of_values_is_symmetric(case: Case) -> None:
    gold, answer = read(plain(case.gold)), read(plain(final_answer(case.solution) or "."))
    if gold is not None and answer is not None:
        assert same_value(gold, answer) == same_value(answer, gold)


@given(fractions, st.sampled_from(["", "$", "**", '"']), st.sampled_from(["", ".", r"\ "]))
def test_cleaning_never_changes_a_numbers_value(value: Fraction, around: str, end: str) -> None:
    text = f"{around}{value.numerator}/{value.denominator}{around}{end}"
    assert number_of(plain(text)) == value
    assert number_of(join_thousands(f"{value.numerator:,}")) == value.numerator


@given(whole, whole)
def test_a_list_is_never_joined_to_one_number(first: int, second: int) -> None:
    joined = f"{first}{abs(second)}"
    assert not math_equal(f"{first}, {second}", joined)
    assert math_equal(f"{first}, {second}", f"{second}, {first}")


@settings(max_examples=500)
@given(st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_whatever_is_written_is_read_or_refused(latex: str) -> None:
    try:
        tokens_of(plain(latex))
    except NotRead:
        assert read(plain(latex)) is None
    judge(Pair(plain(latex), plain(latex)), QUICK)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_each_stage_decides_something(number: int) -> None:
    pairs = [("18", "18"), ("18", "19"), ("2,5", "2.5"), ("AC", "A, C"), ("x+1", "1+x")]
    assert STAGES[number](Pair(*pairs[number])) is (pairs[number] != ("18", "19"))


def test_what_no_stage_before_reads_comes_to_math_verify() -> None:
    pair = Pair(r"\complement_{U}A", r"\complement_U A")
    assert judge(pair, STAGES[:-1]) is None
    assert judge(pair, STAGES) is True
