r"""What a chain of equations comes to (S = 3 + 4 = 7), and what an equation names."""

from __future__ import annotations

from collections.abc import Sequence

from guidelines_core.grading.comparing.labels import NOTHING, all_labels, is_label, is_number, is_unsolved
from guidelines_core.grading.comparing.measures import is_about, measured, same_quantity
from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.comparing.values import rational, same_value
from guidelines_core.grading.comparing.vectors import same_matrix
from guidelines_core.grading.reading.nodes import Node, is_value, symbols_in


def name_and_value(node: Node, same: Same) -> tuple[Node, Node] | None:
    """Return the name and the value of x = 3, 3 = x or S = 1 + 2 = 3; None for any other equation."""
    sides = node.args
    if not all(sign == "=" for sign in node.name.split()):
        return None
    if len(sides) == 2:
        if is_label(sides[0]):
            return (sides[0], sides[1])
        return (sides[1], sides[0]) if sides[1].head == "symbol" and is_label(sides[1]) else None
    if is_label(sides[0]):
        result = result_of(Node("relation", sides[1:], " ".join(node.name.split()[1:])), sides[-1], same)
        return None if result is None else (sides[0], result)
    return None


def assigned(nodes: Sequence[Node], same: Same) -> list[tuple[Node, Node]] | None:
    """Return the names and values of x = 1, y = 2; None if an item names nothing."""
    found = []
    for node in nodes:
        if node.head == "relation" and node.name == ":":
            pair = (node.args[0], node.args[1]) if is_label(node.args[0]) else None
        else:
            pair = name_and_value(node, same) if node.head == "relation" else None
        if pair is None:
            return None
        found.append(pair)
    return found


def result_of(chain: Node, gold: Node, same: Same) -> Node | None:
    """Return what a chain of equations, S = 3 + 4 = 7, comes to; None if it contradicts itself or says more."""
    signs, sides = chain.name.split(), list(chain.args)
    if signs == ["equiv"]:
        return _remainder(*sides)
    rounded = measured(sides[-1]) if set(signs) <= {"=", "~"} else None
    is_gold = rounded and rounded[0].head == "number" and "." in rounded[0].name and same(gold, sides[-1])
    if is_gold and all(side == NOTHING or is_label(side) or is_about(side, sides[-1]) for side in sides[:-1]):
        return sides[-1]  # the gold itself is a rounded decimal
    while signs and signs[-1] == "~" and len(sides) > 1:
        if not is_about(sides[-2], sides[-1]):
            return None
        if rational(sides[-2]) is None and not is_number(sides[-2]):
            break
        signs, sides = signs[:-1], sides[:-1]
    if not signs:
        return sides[0]
    if set(signs) == {"in"} and len(sides) == 2 and sides[0].head == "symbol":
        return sides[1]
    if signs == ["->"] and is_label(sides[0]):
        return None
    if set(signs) != {"="}:
        return None
    last = sides[-1]
    if sides[-1].head == "symbol" and is_label(sides[-1]) and len(sides) == 2 and is_number(sides[0]):
        return sides[0]
    gold_is_number = is_number(gold) or gold.head in ("based", "compound")
    for index, side in enumerate(sides[:-1]):
        if "matrix" in (last.head, side.head) and same_matrix(last, side, same):
            continue
        if side.head == "builder" or (index == 0 and side.name == "e" and is_number(last)):
            continue  # e may be an eccentricity
        if (is_value(side) and is_number(side)) or side.head == "quantity":
            if same_quantity(last, side) is False and same_quantity(side, last) is False:
                return None
            if not (is_value(last) or last.head in ("quantity", "compound", "based")):
                return None
            continue
        if side.head == last.head == "()" and same(last, side):
            continue
        if side.head == "relation" or (side.head in ("list", "()", "set", "[]") and not all_labels(side)):
            return None
        if index and side.head == "*" and [arg.head for arg in side.args] == ["number", "symbol"]:
            return None  # x=3 y=4
        if side.head in ("text", "opaque") and not is_label(side):
            return None  # "not x"
        if gold_is_number and len(sides) == 2 and is_unsolved(side):
            return None
        if gold_is_number or (index == 0 and is_label(side)):
            continue
        if is_value(last) and is_value(side) and same_value(last, side):
            continue
        if not is_label(side):
            return None
        if index and side.head == "symbol" and symbols_in(last):
            return None
    return last


def _remainder(number_: Node, rest: Node) -> Node | None:
    r"""Return what 10 \equiv 1 \pmod 3 says the remainder is; None if it is not."""
    value, modulus = (rest.args[0], rest.args[1]) if rest.head == "apply" and rest.name == "mod" else (rest, None)
    if modulus is None:
        return None
    if is_number(number_):
        whole = [rational(node) for node in (number_, value, modulus)]
        if None in whole or whole[2] == 0 or (whole[0] - whole[1]) % whole[2] != 0:  # type: ignore[operator]
            return None
    return value
