r"""Nodes that the parser puts together: products, negative numbers, recurring decimals, numbers in a base."""

from __future__ import annotations

from fractions import Fraction

from guidelines_core.grading.reading.nodes import Node, is_value, number
from guidelines_core.grading.reading.tokens import NotRead


def negative(node: Node) -> Node:
    """Return minus a value."""
    if node.head == "number" and node.value is not None:
        return Node("number", name="-" + node.name if node.name else "", value=-node.value)
    return Node("*", (number(-1), node))


def product(factors: list[Node]) -> Node:
    """Return a product; one factor is no product."""
    if len(factors) == 1:
        return factors[0]
    return Node("*", tuple(factors))


def recurring(fixed: str, repeated: str) -> Node:
    """Return a decimal whose last digits repeat forever: 0.1 and 6 is 1/6."""
    places = len(fixed.partition(".")[2])
    return number(
        Fraction(fixed if fixed[0] != "." else "0" + fixed)
        + Fraction(int(repeated), 10**places * (10 ** len(repeated) - 1))
    )


def period(decimal: str) -> Node | None:
    """Return the value of 0.1666… or 0.142857142857…; None if no period shows three times (twice if long)."""
    whole, _, places = decimal.partition(".")
    for length in range(1, len(places) // 2 + 1):
        period = places[-length:]
        times = 3 if length == 1 else 2
        if places.endswith(period * times):
            fixed = places[: -length * times].removesuffix(period)
            return recurring(f"{whole or '0'}.{fixed}", period)
    return None


def condition_on(value: Node, node: Node) -> str:
    """Return the condition under which a value holds, an inequality of one of its symbols; else nothing."""
    if node.head != "relation" or set(node.name.split()) & {"=", ":", "~", "in", "notin"}:
        return ""
    if value.head == "relation":
        if set(value.name.split()) != {"="}:
            return ""
        names = {part.name for part in value.args[-1].walk() if part.head == "symbol"}
    elif is_value(value) or value.head == "()":
        names = {part.name for part in value.walk() if part.head == "symbol"}
    else:
        return ""
    about = {side.name for side in node.args if side.head == "symbol"}
    return f"if {node.key}" if about & names else ""


def is_plain(node: Node) -> bool:
    """Tell whether a value may stand in square brackets that mean nothing."""
    return node.head in ("number", "+", "*", "^", "/", "()", "matrix") and bool(node)


def based(digits: str, base: int) -> Node:
    """Return a number written in a base.

    Raises:
        NotRead: a digit that the base does not have.
    """
    try:
        whole, _, part = digits.partition(".")
        value = Fraction(int(whole + part, base), base ** len(part))
        return Node("based", (number(value),), digits)
    except ValueError:
        raise NotRead from None
