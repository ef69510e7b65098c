r"""The set of real numbers that an answer describes: an interval, a union, a set-builder, an inequality.

An end that is no number (`a`) is allowed where the set needs no sorting.
"""

from __future__ import annotations

from guidelines_core.grading.comparing.intervals import (
    INFINITY,
    MINUS_INFINITY,
    REALS,
    Interval,
    RealSet,
    complement,
    intersection,
    joined,
    order,
    positive,
    union,
)
from guidelines_core.grading.reading.nodes import Node, is_value, number, symbols_in

REALS_NAMES = frozenset({"field R", "(-infty,infty)"})


def real_set(node: Node) -> RealSet | None:
    """Return the set of real numbers that an answer describes; None if it describes none."""
    head, args = node.head, node.args
    if head in ("()", "interval()", "(]", "[)", "[]"):
        return _interval(node)
    if head == "symbol":
        if node.name in REALS_NAMES:
            return REALS
        return {"emptyset": RealSet(()), "field R+": positive(False), "field R>=0": positive(True)}.get(node.name)
    if head == "set":
        points = [Interval(arg, True, arg, True) for arg in args]
        if not all(is_value(arg) for arg in args) or any(order(arg) is None for arg in args):
            return None
        merged = joined(points)
        return None if merged is None else RealSet(merged)
    if head in ("union", "intersection", "minus"):
        parts = [real_set(arg) for arg in args]
        if head == "minus" and len(parts) == 2 and parts[1] is None and is_value(args[1]):
            parts[1] = real_set(Node("set", args[1:]))
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        if head == "minus":
            outside = complement(known[1].intervals)
            return None if outside is None else intersection([known[0], RealSet(outside)])
        return union(known) if head == "union" else intersection(known)
    if head == "builder":
        return _built(node)
    if head == "relation":
        return _solutions(node)
    if head == "list" and args[0].head in ("relation", "list"):
        return _several(node)
    return None


def _interval(node: Node) -> RealSet | None:
    if len(node.args) != 2 or not all(is_value(arg) for arg in node.args):
        return None
    low, high = (INFINITY if arg.key == INFINITY.key else arg for arg in node.args)
    shape = {"()": "()", "interval()": "()"}.get(node.head, node.head)
    places = order(low), order(high)
    if None not in places and not places[0] < places[1]:
        return None
    return RealSet(
        (
            Interval(
                low,
                shape[0] == "[",
                high,
                shape[1] == "]",
            ),
        )
    )


def _built(node: Node) -> RealSet | None:
    variable, condition = node.args
    within: list[RealSet] = []
    if variable.head == "relation" and variable.name == "in":
        field = real_set(variable.args[1])
        if field is None:
            return None
        within.append(field)
        variable = variable.args[0]
    if variable.head != "symbol":
        return None
    if condition.head == "list" and condition.name in (",", "and"):
        kept = [part for part in condition.args if not _says_real(part)]
        condition = kept[0] if len(kept) == 1 else Node("list", tuple(kept), "and")
    found = real_set(condition)
    if found is None or (variable.name and found.variable not in ("", variable.name)):
        return None
    result = intersection([found, *within]) if within and within[0] != REALS else found
    return None if result is None else RealSet(result.intervals)


def _says_real(part: Node) -> bool:
    return part.head == "relation" and part.name == "in" and part.args[1].name == "field R"


def _several(node: Node) -> RealSet | None:
    first = node.args[0]
    if first.head == "relation" and first.name == "!=":  # x != 1, 2
        node = Node(
            "list",
            tuple(a if a.head == "relation" else Node("relation", (first.args[0], a), "!=") for a in node.args),
            "and",
        )
    parts = [real_set(arg) for arg in node.args if not _says_real(arg)]
    known = [part for part in parts if part is not None]
    if (
        any(arg.head not in ("relation", "list") for arg in node.args)
        or len(known) < len(parts)
        or not known
        or not all(part.variable for part in known)
    ):
        return None
    if node.name == "or":
        return union(known)
    both = intersection(known)
    if node.name == "and" or (both is not None and both.intervals):
        return both
    return union(known)  # x < -1, x > 2


def _is_unknown(side: Node) -> bool:
    """Tell whether an inequality may be about a side: x, f(x), \\sin x."""
    if side.head == "apply":
        return bool(symbols_in(side))
    return side.head in ("symbol", "opaque") and side.name not in ("infty", "pi", "e", "i", "")


def _solutions(node: Node) -> RealSet | None:
    """Return the solutions of an inequality with a symbol alone on one side, or in the middle."""
    signs, sides = node.name.split(), node.args
    if len(signs) == 1 and signs[0] in ("in", "notin") and sides[0].head == "symbol":
        found = real_set(sides[1])
        if found is not None and signs[0] == "notin":
            outside = complement(found.intervals)
            found = None if outside is None else RealSet(outside)
        return None if found is None else RealSet(found.intervals, sides[0].name)
    if len(signs) == 1 and sides[0].head == "apply" and sides[0].name == "abs" and sides[0].args[0].head == "symbol":
        return _in_bars(sides[0].args[0], signs[0], sides[1])
    if len(signs) == 2 and sides[1].name == "abs" and all(sign in ("<", "<=") for sign in signs):
        low = Node("relation", (sides[1], sides[0]), signs[0].replace("<", ">"))
        parts = [_solutions(low), _solutions(Node("relation", sides[1:], signs[1]))]
        return intersection([part for part in parts if part]) if all(parts) else None
    places = [index for index, side in enumerate(sides) if _is_unknown(side)]
    if len(places) > 1:
        places = [
            place
            for place in places
            if not symbols_in(Node("+", tuple(s for i, s in enumerate(sides) if i != place))) - {sides[place].name}
        ] or (places[:1] if len(sides) == 2 else [p for p in places if p == 1])
    if len(places) != 1 or len(sides) > 3 or (len(sides) == 3 and places[0] != 1):
        return None
    variable = sides[places[0]]
    others = [side for index, side in enumerate(sides) if index != places[0]]
    if any(part.head == "opaque" for side in others for part in side.walk()):
        return None
    if not all(is_value(side) for side in sides) or any(
        variable.head == "symbol" and variable.name in symbols_in(s) for i, s in enumerate(sides) if i != places[0]
    ):
        return None
    low, high, low_closed, high_closed = MINUS_INFINITY, INFINITY, False, False
    for index, sign in enumerate(signs):
        other = sides[index] if index + 1 == places[0] else sides[index + 1]
        if sign in ("=", "!=") and len(signs) == 1:
            if symbols_in(other):
                return None
            point = RealSet((Interval(other, True, other, True),), variable.name)
            if sign == "=":
                return point
            outside = complement(point.intervals)
            return None if outside is None else RealSet(outside, variable.name)
        if sign not in ("<", "<=", ">", ">="):
            return None
        before = index + 1 == places[0]
        if (sign[0] == "<") == before:
            low, low_closed = other, sign.endswith("=")
        else:
            high, high_closed = other, sign.endswith("=")
    if len(signs) == 2 and signs[0][0] != signs[1][0]:
        return None
    low_closed, high_closed = low_closed and low.key != MINUS_INFINITY.key, high_closed and high.key != INFINITY.key
    return RealSet(
        (Interval(low, low_closed, high, high_closed),), variable.name if variable.head == "symbol" else variable.key
    )


def _in_bars(variable: Node, sign: str, bound: Node) -> RealSet | None:
    place = order(bound)
    if place is None or not place > 0 or sign not in ("<", "<=", ">", ">="):
        return None
    closed = sign.endswith("=")
    minus = Node("*", (number(-1), bound))
    inside = RealSet(
        (Interval(minus, closed == (sign[0] == "<") and closed, bound, closed and sign[0] == "<"),), variable.name
    )
    if sign[0] == "<":
        return inside
    outside = complement((Interval(minus, not closed, bound, not closed),))
    return None if outside is None else RealSet(outside, variable.name)
