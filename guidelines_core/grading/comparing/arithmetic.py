r"""Arithmetic of values: exact where both are rational, else to mpmath's working precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import mpmath
from mpmath import mp

Value = Any  # Fraction, mpmath.mpf or mpmath.mpc

MAX_BITS = 400_000
"""A rational number longer than this is not computed."""


class NoValue(Exception):
    """The expression has no value here: a division by zero, or no real value where a real one is wanted."""


class NotComputed(Exception):
    """The expression is beyond what this module computes."""


def as_float(value: Value) -> Value:
    """Return a fraction as a number of mpmath's working precision; anything else as it is."""
    if isinstance(value, Fraction):
        return mpmath.mpf(value.numerator) / value.denominator
    return value


def sum_of(values: Iterable[Value]) -> Value:
    """Return a sum."""
    total: Value = Fraction(0)
    for value in values:
        both = isinstance(total, Fraction) and isinstance(value, Fraction)
        total = total + value if both else as_float(total) + as_float(value)
    return total


def product_of(values: Iterable[Value]) -> Value:
    """Return a product; NotComputed if it is too long."""
    total: Value = Fraction(1)
    for value in values:
        both = isinstance(total, Fraction) and isinstance(value, Fraction)
        if both and max(total.numerator.bit_length() + value.numerator.bit_length(), 1) > 2 * MAX_BITS:
            raise NotComputed
        total = total * value if both else as_float(total) * as_float(value)
        if value == 0:
            total = Fraction(0)
    return total


def exact_root(value: Fraction, degree: int) -> Fraction | None:
    """Return the exact root of a rational number; None if it is not rational."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 20_000:
        return None
    roots = []
    for number in (value.numerator, value.denominator):
        root = math.isqrt(number) if degree == 2 else _integer_root(number, degree)
        if root**degree != number:
            return None
        roots.append(root)
    return Fraction(*roots)


def _integer_root(number: int, degree: int) -> int:
    if number < 2:
        return number
    low, high = 1, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= number:
            low = middle
        else:
            high = middle - 1
    return low


def whole(value: Value) -> int:
    """Return an integer value; NotComputed for any other."""
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise NotComputed
    return value.numerator


def factorial(value: Value, real: bool) -> Value:
    """Return a factorial, of the gamma function where the value is no integer."""
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise NoValue
        if value > 20_000:
            raise NotComputed
        return Fraction(math.factorial(value.numerator))
    if isinstance(value, mpmath.mpc) or abs(value) > 10_000:
        raise NotComputed
    try:
        return mpmath.gamma(as_float(value) + 1)
    except (ValueError, ZeroDivisionError):
        raise NoValue from None


def binomial(top: Value, bottom: Value) -> Value:
    """Return a binomial coefficient."""
    whole = all(isinstance(value, Fraction) and value.denominator == 1 for value in (top, bottom))
    if whole and 0 <= bottom <= top <= 20_000:
        return Fraction(math.comb(top.numerator, bottom.numerator))
    if isinstance(bottom, Fraction) and bottom.denominator == 1 and isinstance(top, Fraction) and 0 <= bottom <= 200:
        value = Fraction(1)
        for step in range(bottom.numerator):
            value = value * (top - step) / (step + 1)
        return value
    if any(isinstance(value, mpmath.mpc) or abs(value) > 10_000 for value in (top, bottom)):
        raise NotComputed
    try:
        return mpmath.binomial(as_float(top), as_float(bottom))
    except (ValueError, ZeroDivisionError):
        raise NoValue from None


FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec, "csc": mpmath.csc,
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan,
    "arccot": lambda x: mp.pi / 2 - mpmath.atan(x), "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh,
    "coth": mpmath.coth,
}  # fmt: skip
