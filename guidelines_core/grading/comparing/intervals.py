r"""Sets of real numbers as intervals: order, union, intersection, complement, equality."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath

from guidelines_core.grading.comparing.values import real_number, same_value
from guidelines_core.grading.reading.nodes import Node, number, symbol, symbols_in

INFINITY = symbol("infty")
MINUS_INFINITY = Node("*", (number(-1), INFINITY))


@dataclass(frozen=True)
class Interval:
    """An interval or, with equal ends, a point."""

    low: Node
    low_closed: bool
    high: Node
    high_closed: bool


@dataclass(frozen=True)
class RealSet:
    """Intervals, and the symbol that an inequality is about (nothing if none was named)."""

    intervals: tuple[Interval, ...]
    variable: str = ""


REALS = RealSet((Interval(MINUS_INFINITY, False, INFINITY, False),))


def order(node: Node) -> Any:
    """Return an end's place on the real line, None if it is no number."""
    if node.key == INFINITY.key:
        return float("inf")
    if node.key == MINUS_INFINITY.key:
        return float("-inf")
    value = None if symbols_in(node) else real_number(node)
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _same_end(first: Node, second: Node) -> bool:
    if first.key == second.key:
        return True
    if INFINITY.key in (first.key, second.key) or MINUS_INFINITY.key in (first.key, second.key):
        return False
    return same_value(first, second) is True


def _same_bracket(end: Node, wanted: bool, given: bool) -> bool:
    """Tell whether two brackets are the same; a gold may close an interval at infinity, an answer may not."""
    return wanted == given or (wanted and end.key in (INFINITY.key, MINUS_INFINITY.key))


def same_set(gold: RealSet, answer: RealSet) -> bool:
    """Tell whether two sets have the same elements and are about the same variable, where both name one."""
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return False
    return len(gold.intervals) == len(answer.intervals) and all(
        _same_end(g.low, a.low)
        and _same_end(g.high, a.high)
        and _same_bracket(g.low, g.low_closed, a.low_closed)
        and _same_bracket(g.high, g.high_closed, a.high_closed)
        for g, a in zip(gold.intervals, answer.intervals, strict=True)
    )


def joined(intervals: list[Interval]) -> tuple[Interval, ...] | None:
    """Return the intervals in order, those that touch joined; None if their ends have no order."""
    if len(intervals) < 2:
        return tuple(intervals)
    placed = [(order(one.low), not one.low_closed, one) for one in intervals]
    if any(low is None or order(one.high) is None for low, _, one in placed):
        return None
    placed.sort(key=lambda entry: entry[:2])
    found = [placed[0][2]]
    for _, _, one in placed[1:]:
        last = found[-1]
        low, high = order(one.low), order(last.high)
        touches = low < high or (_same_end(one.low, last.high) and (one.low_closed or last.high_closed))
        if not touches:
            found.append(one)
            continue
        if _same_end(one.high, last.high):
            found[-1] = Interval(last.low, last.low_closed, last.high, last.high_closed or one.high_closed)
        elif order(one.high) > high:
            found[-1] = Interval(last.low, last.low_closed, one.high, one.high_closed)
    return tuple(found)


def complement(intervals: tuple[Interval, ...]) -> tuple[Interval, ...] | None:
    """Return what is left of the real line."""
    low, closed = MINUS_INFINITY, False
    found = []
    for one in intervals:
        if order(one.low) is None or order(one.high) is None:
            return None
        if not _same_end(low, one.low):
            found.append(Interval(low, closed, one.low, not one.low_closed))
        elif closed and not one.low_closed:
            found.append(Interval(low, True, low, True))
        low, closed = one.high, not one.high_closed
    if not _same_end(low, INFINITY):
        found.append(Interval(low, closed, INFINITY, False))
    return tuple(found)


def union(parts: list[RealSet]) -> RealSet | None:
    """Return the union of sets about one symbol; None if it has no order or there are two symbols."""
    names = {part.variable for part in parts if part.variable}
    merged = joined([one for part in parts for one in part.intervals])
    return None if merged is None or len(names) > 1 else RealSet(merged, "".join(names))


def intersection(parts: list[RealSet]) -> RealSet | None:
    """Return the intersection of sets about one symbol; None if it has no order or there are two symbols."""
    names = {part.variable for part in parts if part.variable}
    outside = [complement(part.intervals) for part in parts]
    if any(one is None for one in outside) or len(names) > 1:
        return None
    merged = joined([one for part in outside if part is not None for one in part])
    inside = None if merged is None else complement(merged)
    return None if inside is None else RealSet(inside, "".join(names))


def positive(closed: bool) -> RealSet:
    """Return the numbers above 0, with 0 if the set is closed."""
    return RealSet((Interval(number(0), closed, INFINITY, False),))
