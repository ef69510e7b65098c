r"""Ratios and times of the day."""

from __future__ import annotations

from fractions import Fraction

from guidelines_core.grading.comparing.labels import is_label
from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.comparing.values import rational, same_value
from guidelines_core.grading.reading.nodes import Node, is_value, number
from guidelines_core.grading.units import unit_of


def is_ratio_or_time(node: Node) -> bool:
    """Tell whether a node is a ratio, 1:2, or a time of the day."""
    return _is_ratio(node) or clock(node) is not None


def _is_ratio(node: Node) -> bool:
    """Tell whether it is 1:2, "1 to 2" or A:B = 1:2."""
    signs = node.name.split()
    return node.head == "relation" and (set(signs) in ({":"}, {"to"}) or (set(signs) == {":", "="} and signs[0] == ":"))


def clock(node: Node) -> tuple[Fraction, str] | None:
    """Return the minutes of 4:30 p.m. and the half of the day, nothing if that is not said."""
    half = ""
    if node.head == "quantity" and unit_of(node.name).name in ("am", "pm"):
        half = unit_of(node.name).name
        hours = node.args[0].value
        return (hours * 60, half) if hours is not None else None
    if node.head != "relation" or node.name != ":":
        return None
    hour, minute = node.args
    if minute.head == "quantity" and unit_of(minute.name).name in ("am", "pm"):
        half, minute = unit_of(minute.name).name, minute.args[0]
    if hour.value is None or minute.value is None or len(minute.name) != 2 or minute.value >= 60 or hour.value > 24:
        return None
    return hour.value * 60 + minute.value, half


def same_ratio(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare two ratios or times; a number is its ratio to 1."""
    if gold.name == answer.name == "to":  # a range as likely as a ratio
        return all(same(g, a) for g, a in zip(gold.args, answer.args, strict=True))
    first, second = clock(gold), clock(answer)
    if first and second:
        return _same_time(first, second)
    if (first and first[1]) or (second and second[1]):
        return False
    wanted, given = _terms(gold), _terms(answer)
    if wanted is None or given is None:
        if gold.head == "relation" and answer.head == "relation" and answer.name.startswith("="):
            return same(gold, answer.args[-1])
        if answer.head == "relation" and answer.name.split() == ["=", ":"]:
            return same(gold, Node("relation", answer.args[1:], ":"))
        return False
    if len(wanted) != len(given) or any(rational(term) == 0 for term in (*wanted, *given)):
        return False
    return all(
        same_value(Node("*", (wanted[0], a)), Node("*", (given[0], g))) is True
        for g, a in zip(wanted[1:], given[1:], strict=True)
    )


def _same_time(first: tuple[Fraction, str], second: tuple[Fraction, str]) -> bool:
    """Compare two times; 4:30 may leave out its half of the day, and 16:30 is 4:30 p.m."""
    if first[1] and second[1]:
        return first[1] == second[1] and first[0] % 720 == second[0] % 720
    if first[0] == second[0]:
        return True
    in_24_hours = [
        minutes % 720 + (720 if half == "pm" else 0) if half else minutes for minutes, half in (first, second)
    ]
    return in_24_hours[0] == in_24_hours[1]


def _terms(node: Node) -> list[Node] | None:
    """Return the terms of a ratio; of a number, it and 1."""
    if _is_ratio(node):
        signs = node.name.split()
        first = signs.index("=") + 1 if "=" in signs else 0
        terms = list(node.args[first:])
        terms = terms if len(terms) > 1 else [*terms, number(1)]
        named = all(map(is_label, node.args[:first])) and signs.count("=") < 2
        return terms if named and all(map(is_value, terms)) else None
    if node.head == "relation" and node.name.split() == ["=", ":"]:
        return list(node.args[1:])
    return [node, number(1)] if is_value(node) else None
