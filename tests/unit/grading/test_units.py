"""Which words after a number are its unit, and what two units convert by."""

from __future__ import annotations

from fractions import Fraction

import pytest

from guidelines_core.grading.units import Unit, factors, is_unit_phrase, unit_of


@pytest.mark.parametrize(
    ("gold", "answer", "by"),
    [
        ("cm", "", [1]),
        ("", "apples", [1]),
        ("m", "cm", [Fraction(1, 100)]),
        ("m", "kg", []),
        ("m ^ 2", "cm ^ 2", [Fraction(1, 10_000)]),
        ("m ^ 2", "m ^ 3", []),
        ("km / h", "meters per second", [Fraction(18, 5)]),
        ("lb", "ounces", [Fraction(1, 16)]),
        ("L", "mL", [Fraction(1, 1000)]),
        ("cm ^ 3", "mL", [1]),
        ("$", "cents", [Fraction(1, 100)]),
        ("$", "euros", []),
        ("dimes", "nickels", [Fraction(1, 2)]),
        ("", "million", [1_000_000]),
        ("", "halves", [Fraction(1, 2)]),
        ("", "thousandths", [Fraction(1, 1000)]),
        ("trillion", "billion", [Fraction(1, 1000)]),
        ("%", "", [1, 100]),
        ("", "%", [1, Fraction(1, 100)]),
        ("%", "cm", []),
        ("°", "rad", []),
        ("p.m.", "a.m.", []),
        ("years", "months", [Fraction(1, 12)]),
    ],
)
def test_factors_between_units(gold: str, answer: str, by: list[Fraction]) -> None:
    assert factors(unit_of(gold) if gold else None, unit_of(answer) if answer else None) == by


@pytest.mark.parametrize(
    "phrase", ["apples", "red apples", "students in the class", "square units", "ways", "cm ^ 2", "years old", "times"]
)
def test_nouns_may_be_units(phrase: str) -> None:
    assert is_unit_phrase(phrase)


@pytest.mark.parametrize(
    "phrase",
    ["divided by two", "or more", "at least", "squared", "is wrong", "minus one",
     "below zero", "remainder three", "choose two", "of", "quintillionths", "doubled", "nines", "but wait"],
)  # fmt: skip
def test_words_that_make_another_number_are_no_unit(phrase: str) -> None:
    assert not is_unit_phrase(phrase)


def test_an_unknown_unit_is_none_that_converts() -> None:
    assert unit_of("apples") == Unit("", is_label=True)
    assert factors(unit_of("cm"), unit_of("apples")) == []
