r"""The value of an expression: exact where it is rational, else to the working precision of mpmath.

An evaluation counts the digits that the magnitudes of all its parts have together, for `values` to tell how many digits
a comparison needs.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Iterable, Mapping
from fractions import Fraction

import mpmath
from mpmath import mp

from guidelines_core.grading.comparing.arithmetic import (
    FUNCTIONS,
    MAX_BITS,
    NotComputed,
    NoValue,
    Value,
    as_float,
    binomial,
    exact_root,
    factorial,
    product_of,
    sum_of,
    whole,
)
from guidelines_core.grading.comparing.labels import TRIGONOMETRIC
from guidelines_core.grading.reading.nodes import CONSTANTS, Node

MAX_MAGNITUDE = 3_000
"""Digits of all magnitudes together beyond which nothing is said about an expression that is not rational."""
BASE_DIGITS = 45


class Evaluation:
    """One evaluation: its symbols' values, whether it is real, and the digits that its magnitudes have together."""

    def __init__(self, symbols: Mapping[str, Fraction], real: bool) -> None:
        self.symbols, self.real = symbols, real
        self.magnitude = 0.0
        self.in_trigonometry = 0
        self.steps = 0

    def seen(self, value: Value, cancels: bool = False) -> Value:
        """Return the value, its magnitude counted; what may be nothing but rounding errors is 0."""
        self.steps += 1
        if self.steps > 3000:
            raise NotComputed
        if isinstance(value, int):
            value = Fraction(value)
        if isinstance(value, Fraction):
            bits = max(value.numerator.bit_length(), value.denominator.bit_length())
            if bits > MAX_BITS:
                raise NotComputed
            self.magnitude += 0.302 * max(bits - 8, 0)
            return value
        if isinstance(value, mpmath.mpc) and value.imag == 0:
            value = value.real
        if isinstance(value, mpmath.mpc):
            if self.real:
                raise NoValue
            if not (mpmath.isfinite(value.real) and mpmath.isfinite(value.imag)):
                raise NoValue
        elif not mpmath.isfinite(value):
            raise NoValue
        if cancels and abs(value) < mpmath.mpf(10) ** (8 - mp.dps):
            return Fraction(0)
        if value != 0:
            self.magnitude += 0.302 * max(abs(mpmath.mag(value)) - 4, 0)
        if self.magnitude > 10 * MAX_MAGNITUDE:
            raise NotComputed
        return value

    def of(self, node: Node) -> Value:
        """Return the value of an expression."""
        head = node.head
        if head == "number":
            assert node.value is not None
            return self.seen(node.value)
        if head == "symbol":
            return self.seen(self.symbol(node.name))
        if head == "+":
            return self.seen(sum_of([self.of(arg) for arg in node.args]), cancels=True)
        if head == "*":
            return self.seen(product_of([self.of(arg) for arg in node.args]))
        if head == "/":
            return self.seen(self.divide(self.of(node.args[0]), self.of(node.args[1])))
        if head == "^":
            return self.seen(self.power(self.of(node.args[0]), self.of(node.args[1]), not names_in(node.args[1:])))
        if head == "apply":
            return self.seen(self.function(node), cancels=True)
        if head == "opaque":
            return self.seen(self.opaque(node))
        raise NotComputed

    def symbol(self, name: str) -> Value:
        """Return a constant's or a sample's value."""
        if name == "pi":
            return +mp.pi
        if name == "e":
            return +mp.e
        if name == "i":
            if self.real:
                raise NoValue
            return mpmath.mpc(0, 1)
        if name in CONSTANTS or name in ("", "...") or name.startswith("field"):
            raise NotComputed
        return self.symbols[name]

    def opaque(self, node: Node) -> Value:
        """Return a value that depends on nothing but what the node is made of."""
        if any(part.head == "symbol" and part.name == "..." for part in node.walk()):
            raise NotComputed
        seed = zlib.crc32(_opaque_key(node, self.symbols).encode("utf-8", "surrogatepass"))
        return Fraction(random.Random(seed).randint(1000, 9000), 1009)

    @staticmethod
    def divide(top: Value, bottom: Value) -> Value:
        """Return a quotient; NoValue for a division by zero."""
        if bottom == 0:
            raise NoValue
        if isinstance(top, Fraction) and isinstance(bottom, Fraction):
            return top / bottom
        return as_float(top) / as_float(bottom)

    def power(self, base: Value, exponent: Value, constant: bool = True) -> Value:
        """Return a power: exact if it can be, a real root of a negative number if the exponent is constant and its
        denominator odd.
        """
        if exponent == 0:
            return Fraction(1)
        if base == 0:
            if isinstance(exponent, mpmath.mpc) or exponent < 0:
                raise NoValue
            return Fraction(0)
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            power = exponent.numerator
            if isinstance(base, Fraction):
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if abs(base) == 1 or bits * abs(power) <= MAX_BITS:
                    return base**power
            if abs(power) > 10**12:
                raise NotComputed
            return as_float(base) ** power
        negative = not isinstance(base, mpmath.mpc) and base < 0
        if negative and constant and isinstance(exponent, Fraction) and exponent.denominator % 2:
            sign = -1 if exponent.numerator % 2 else 1  # the real root
            return sign * self.power(-base, exponent)
        if negative and self.real:
            raise NoValue
        if (
            not negative
            and isinstance(base, Fraction)
            and isinstance(exponent, Fraction)
            and exponent.denominator <= 64
        ):
            root = exact_root(base, exponent.denominator)
            if root is not None:
                return self.power(root, Fraction(exponent.numerator))
        return mpmath.power(as_float(base), as_float(exponent))

    def function(self, node: Node) -> Value:
        """Return the value of a named function."""
        name = node.name
        if name == "deg":
            value = self.of(node.args[0])
            return as_float(value) * mp.pi / 180 if self.in_trigonometry else value
        if name == "det":
            return self.determinant([[self.of(cell) for cell in row.args] for row in node.args[0].args])
        trigonometric = name in TRIGONOMETRIC
        self.in_trigonometry += trigonometric
        values = [self.of(arg) for arg in node.args]
        self.in_trigonometry -= trigonometric
        first = values[0]
        if name in ("gcd", "lcm"):
            integers = [whole(value) for value in values]
            return Fraction(math.gcd(*integers) if name == "gcd" else math.lcm(*integers))
        if name == "mod":
            number, modulus = (whole(value) for value in values)
            if modulus == 0:
                raise NoValue
            return Fraction(number % modulus)
        if name == "!!" or name == "norm":
            raise NotComputed
        if name == "!":
            return factorial(first, self.real)
        if name == "binom":
            return binomial(*values)
        if name == "abs":
            return abs(first)
        if name in ("floor", "ceil"):
            if isinstance(first, mpmath.mpc):
                raise NoValue
            if not isinstance(first, Fraction):
                nearest = int(mpmath.nint(first))
                if abs(first - nearest) < mpmath.mpf(10) ** -20:
                    return Fraction(nearest)
                return Fraction(int(mpmath.floor(first) if name == "floor" else mpmath.ceil(first)))
            return Fraction(math.floor(first) if name == "floor" else math.ceil(first))
        if name in ("log", "log10", "ln"):
            return self.logarithm(name, values)
        if name in FUNCTIONS:
            value = as_float(first)
            if not isinstance(value, mpmath.mpc) and abs(value) > 10**9:
                raise NotComputed
            try:
                return FUNCTIONS[name](value)
            except (ZeroDivisionError, ValueError, OverflowError):
                raise NoValue from None
        raise NotComputed

    def determinant(self, rows: list[list[Value]]) -> Value:
        """Return the determinant of a square matrix of up to five rows."""
        if len(rows) != len(rows[0]) or len(rows) > 5:
            raise NotComputed
        if len(rows) == 1:
            return rows[0][0]
        minors = [[row[:column] + row[column + 1 :] for row in rows[1:]] for column in range(len(rows))]
        return sum_of(
            product_of([(-1) ** c * Fraction(1), rows[0][c], self.determinant(m)]) for c, m in enumerate(minors)
        )

    def logarithm(self, name: str, values: list[Value]) -> Value:
        """Return a logarithm: natural, of base 10 or of a base given; exact if it is a whole number."""
        value = values[0]
        if value == 0 or (self.real and not isinstance(value, mpmath.mpc) and value < 0):
            raise NoValue
        base = Fraction(10) if name == "log10" else values[1] if name == "log" else None
        if base is None:
            return Fraction(0) if value == 1 else mpmath.log(as_float(value))
        if base in (0, 1):
            raise NoValue
        logarithm = mpmath.log(as_float(value)) / mpmath.log(as_float(base))
        if (
            isinstance(value, Fraction)
            and isinstance(base, Fraction)
            and base > 0
            and not isinstance(logarithm, mpmath.mpc)
        ):
            nearest = int(mpmath.nint(logarithm))
            if abs(nearest) < 10_000 and base**nearest == value:
                return Fraction(nearest)
        return logarithm


def _opaque_key(node: Node, symbols: Mapping[str, Fraction]) -> str:
    """Return the node's key, with what can be computed in it computed: f(2+x) and f(x+2) are the same."""
    parts = []
    for arg in node.args:
        try:
            value = Evaluation(symbols, True).of(arg)
            exact = isinstance(value, Fraction)
            parts.append(f"{value.numerator:x}/{value.denominator:x}" if exact else mpmath.nstr(value, 25))
        except (NoValue, NotComputed, KeyError):
            parts.append(arg.key if not arg.args else f"{arg.head}[{arg.name}]({_opaque_key(arg, symbols)})")
    if node.name == "of" and node.args[0].head == "symbol":
        parts[0] = node.args[0].key
    return f"{node.head}[{node.name}]({','.join(parts)})"


def names_in(nodes: Iterable[Node]) -> list[str]:
    """Return the names of the symbols that need a value."""
    return sorted({p.name for n in nodes for p in n.walk() if p.head == "symbol" and p.name not in CONSTANTS})
