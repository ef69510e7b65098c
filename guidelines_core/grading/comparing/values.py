r"""Whether two expressions have the same value: exactly where they are rational, else to as many digits as it takes.

Symbols get rational sample values, the same ones on both sides; an identity that holds at every sample is taken for
true (Schwartz-Zippel). A number that is not rational is computed with twice as many digits as all its parts' magnitudes
have together, so that a difference far below the numbers themselves, such as 10^{-20} beside 1, still shows.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
from mpmath import mp

from guidelines_core.grading.comparing.arithmetic import NotComputed, NoValue, Value, as_float
from guidelines_core.grading.comparing.evaluate import BASE_DIGITS, MAX_MAGNITUDE, Evaluation, names_in
from guidelines_core.grading.reading.nodes import Node

SURE_DIGITS = 22
"""Decimal places, beyond those of the magnitudes, to which two values must agree."""


def _difference(first: Node, second: Node, symbols: Mapping[str, Fraction], real: bool) -> bool:
    """Tell whether two expressions are equal at one sample.

    Raises:
        NoValue: one of them has no value there.
        NotComputed: one of them is too large or unknown.
    """
    digits = BASE_DIGITS
    for _ in range(3):
        with mp.workdps(digits):
            evaluations = [Evaluation(symbols, real) for _ in range(2)]
            a, b = (evaluation.of(node) for evaluation, node in zip(evaluations, (first, second), strict=True))
            if isinstance(a, Fraction) and isinstance(b, Fraction):
                return a == b
            magnitude = sum(evaluation.magnitude for evaluation in evaluations)
            if magnitude > MAX_MAGNITUDE:
                raise NotComputed
            if digits >= BASE_DIGITS + 2 * magnitude - 1:
                return bool(abs(as_float(a) - as_float(b)) < mpmath.mpf(10) ** -(SURE_DIGITS + magnitude))
        digits = int(BASE_DIGITS + 2 * magnitude) + 10
    raise NotComputed


def samples(names: Sequence[str], where: str, count: int) -> list[dict[str, Fraction]]:
    r"""Return values for symbols, that depend on their names only: some 0.2 to 4, or in (0, 1), or whole numbers.

    Of those with negative values no two are negative at once: \sqrt{m/n} is \sqrt{mn}/n to everyone who writes either.
    """
    found = []
    for turn in range(count):
        values = {}
        for index, name in enumerate(names):
            draw = random.Random(zlib.crc32(f"{name} {turn} {where}".encode("utf-8", "surrogatepass")))
            if where == "whole":
                values[name] = Fraction(draw.randint(1, 9) + 2 * turn)
                continue
            value = Fraction(draw.randint(20, 400), 401 if where == "unit" or (where == "more" and turn % 2) else 97)
            values[name] = -value if where == "negative" and index == turn % len(names) else value
        found.append(values)
    return found


@lru_cache(maxsize=4096)
def same_value(first: Node, second: Node) -> bool | None:
    """Tell whether two values are equal, as functions of their symbols; None if that cannot be computed."""
    if first.key == second.key:
        return True
    names = names_in((first, second))
    try:
        if not names:
            return _same_number(first, second)
        return _same_function(first, second, names)
    except (NotComputed, OverflowError, MemoryError):
        return None


def _same_number(first: Node, second: Node) -> bool | None:
    imaginary = any(part.head == "symbol" and part.name == "i" for node in (first, second) for part in node.walk())
    for real in (False,) if imaginary else (True, False):
        try:
            return _difference(first, second, {}, real)
        except NoValue:
            continue
    return None


def _same_function(first: Node, second: Node, names: list[str]) -> bool | None:
    imaginary = _is_complex(first) or _is_complex(second)
    agreed = 0
    one_has_bars = _has_bars(first) != _has_bars(second)  # ln|x| is more than ln x
    for where, count in (
        ("wide", 4),
        ("unit", 4),
        ("negative", max(4, min(2 * len(names), 8))),
        ("whole", 4),
        ("more", 20),
    ):
        if where == "more" and agreed >= 3:
            break
        whole = where == "whole"
        for values in samples(names, where, count):
            try:
                if imaginary:
                    values = {
                        n: mpmath.mpc(as_float(v), as_float(v) + 1) if n in ("z", "w") else v for n, v in values.items()
                    }
                if not _difference(first, second, values, not imaginary):
                    return False
                agreed += 1
            except NoValue:
                if _defined(first, values) != _defined(second, values) and ((whole and agreed < 4) or one_has_bars):
                    return False
                continue
    return True if agreed >= 3 else None


def _has_bars(node: Node) -> bool:
    return any(part.head == "apply" and part.name == "abs" for part in node.walk())


def _is_complex(node: Node) -> bool:
    """Tell whether an expression has i in it, or the absolute value of z or w, which are complex by custom."""
    return any(
        (part.head == "symbol" and part.name == "i")
        or (part.name == "abs" and any(inner.name in ("z", "w") for inner in part.walk()))
        for part in node.walk()
    )


def _defined(node: Node, values: Mapping[str, Fraction]) -> bool:
    try:
        with mp.workdps(BASE_DIGITS):
            Evaluation(values, True).of(node)
    except NoValue:
        return False
    return True


def ratio_sign(first: Node, second: Node) -> int | None:
    """Return the sign of the constant that one expression is of the other; None if they are not proportional."""
    names = names_in((first, second))
    ratio: Value = None
    try:
        for values in samples(names, "wide", 4) + samples(names, "negative", 4):
            with mp.workdps(80):
                try:
                    a, b = (Evaluation(values, True).of(node) for node in (first, second))
                except NoValue:
                    continue
            if (a == 0) != (b == 0) or b == 0:
                return None
            with mp.workdps(80):
                now = a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else as_float(a) / as_float(b)
                if isinstance(now, mpmath.mpc):
                    return None
                if ratio is None:
                    ratio = now
                elif abs(as_float(now) - as_float(ratio)) > mpmath.mpf(10) ** -40 * abs(as_float(ratio)):
                    return None
    except (NotComputed, OverflowError):
        return None
    return None if ratio is None else 1 if ratio > 0 else -1


@lru_cache(maxsize=4096)
def rational(node: Node) -> Fraction | None:
    """Return the value of an expression that is a rational number; None for any other."""
    try:
        with mp.workdps(BASE_DIGITS):
            value = Evaluation({}, True).of(node)
    except (NoValue, NotComputed, KeyError, OverflowError):
        return None
    return value if isinstance(value, Fraction) else None


def real_number(node: Node) -> Any:
    """Return a real number's value to 45 digits (Fraction or mpf); None if it is none."""
    try:
        with mp.workdps(BASE_DIGITS):
            value = Evaluation({}, True).of(node)
    except (NoValue, NotComputed, KeyError, OverflowError):
        return None
    return value


_DECIMAL = re.compile(r"-?0*(\d*)\.(\d+)")


def rounds_to(exact: Node, decimal: Node) -> bool:
    """Tell whether a decimal of six or more places, five of them significant, is a number rounded to it."""
    if decimal.head == "*" and len(decimal.args) == 2 and decimal.args[0].value == -1:
        decimal, exact = decimal.args[1], Node("*", (Node("number", value=Fraction(-1)), exact))
    match = _DECIMAL.fullmatch(decimal.name) if decimal.head == "number" else None
    if not match or len(match[2]) < 6 or len((match[1] + match[2]).lstrip("0")) < 5:
        return False
    value = real_number(exact)
    if value is None or decimal.value is None:
        return False
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return False
        return abs(value - decimal.value) <= Fraction(1, 2 * 10 ** len(match[2]))
    with mp.workdps(BASE_DIGITS):
        return bool(abs(value - as_float(decimal.value)) <= mpmath.mpf(1) / (2 * 10 ** len(match[2])))
