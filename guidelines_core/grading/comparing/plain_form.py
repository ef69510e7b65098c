r"""An answer in its plain form: without clauses, with flat lists, both signs written out and words as values."""

from __future__ import annotations

import itertools
import re

from guidelines_core.grading.comparing.chains import assigned
from guidelines_core.grading.comparing.labels import is_number
from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.comparing.words import value_of
from guidelines_core.grading.reading.nodes import CONSTANTS, Node, number, symbol
from guidelines_core.grading.units import Unit, factors, unit_of

MAX_SYSTEMS = 40


def in_plain_form(node: Node, same: Same) -> Node:
    """Return the answer without what only names it, with flat lists, both signs written out and words as values."""
    if node.head == "text":
        return value_of(node.name) or node
    if node.head == "point":
        return Node("relation", (symbol(node.name), node.args[0]), "=")  # A(1, 2)
    if node.head == "matrix" and len(node.args) == len(node.args[0].args) == 1:
        return in_plain_form(node.args[0].args[0], same)
    if node.head == "opaque" and node.name == "of" and len(node.args) > 2 and node.args[0].name.isupper():
        return in_plain_form(Node("()", node.args[1:]), same)  # P(1, 2)
    if node.head == "^" and node.args[0].head == "()" and node.args[1].name in ("T", "top"):
        return in_plain_form(node.args[0], same)  # (1, 2)^T
    if node.head == "pm" and node.args[0].head == "()":
        plus, minus = node.args[0], Node("()", tuple(Node("*", (number(-1), arg)) for arg in node.args[0].args))
        return Node("list", (plus, minus), ",")
    if node.head == "relation":
        node = _without_membership(node)
    if node.head == "relation" and node.name == "equiv" and node.args[1].name != "mod":
        node = Node("relation", node.args, "=")  # f(x) is identically 0
    if node.head == "relation" and (values := _equal_unknowns(node)):
        return values
    if node.head == "list":
        if compound := _as_compound(node):
            return compound
        node = _distributed(node)
        systems = _systems(node, same)
        if systems is not None:
            return systems
        parts = [in_plain_form(arg, same) for arg in node.args]
        flat = [
            one
            for part in parts
            for one in (part.args if part.head == "list" and part.name != ";" and node.name != ";" else (part,))
        ]
        return Node("list", tuple(flat), node.name)
    if node.head in ("set", "()"):
        each = [_signs(arg) for arg in node.args]
        if node.head == "set":
            return Node("set", tuple(one for several in each for one in several))
        if any(len(several) > 1 for several in each) and 2 ** len(each) <= MAX_SYSTEMS:
            return Node("list", tuple(Node("()", one) for one in itertools.product(*each)), ",")
        return node
    signs = _signs(node)
    return node if len(signs) == 1 else Node("list", tuple(signs), ",")


def _equal_unknowns(node: Node) -> Node | None:
    """Return x_1 = x_2 = 2 as x_1 = 2, x_2 = 2; None for anything else."""
    *names, value = node.args
    labels = [re.fullmatch(r"(\w+)_(\w+)", name.name) for name in names if name.head == "symbol"]
    if len(names) < 2 or len(labels) < len(names) or set(node.name.split()) != {"="}:
        return None
    if len({label[1] for label in labels if label}) != 1 or not all(labels):
        return None
    return Node("list", tuple(Node("relation", (name, value), "=") for name in names), ",")


def _as_compound(node: Node) -> Node | None:
    """Return "2 hours and 15 minutes" as one value; None for another list."""
    units = [unit_of(arg.name).name if arg.head == "quantity" else "" for arg in node.args]
    if node.name != "and" or not all(units) or len(set(units)) < len(units):
        return None
    sizes = [factors(Unit(units[0]), Unit(unit)) for unit in units]
    return Node("compound", node.args) if all(sizes) and sizes == sorted(sizes, reverse=True) else None


def _distributed(node: Node) -> Node:
    """Return a, b > 0 as a > 0, b > 0."""
    *names, last = node.args
    if (
        last.head != "relation"
        or len(last.args) != 2
        or not set(last.name.split()) & {"<", ">", "<=", ">=", "!=", "in"}
    ):
        return node
    if not all(name.head == "symbol" and name.name not in CONSTANTS for name in (*names, last.args[0])):
        return node
    return Node("list", (*(Node("relation", (name, last.args[1]), last.name) for name in names), last), "and")


def _systems(node: Node, same: Same) -> Node | None:
    r"""Return x = 1, y = \pm 2 as two systems; None for any other list."""
    pairs = assigned(node.args, same) if all(arg.head == "relation" for arg in node.args) else None
    if pairs is None or len({label.key for label, _ in pairs}) < len(pairs):
        return None
    signs = [_signs(arg) for arg in node.args]
    if all(len(several) == 1 for several in signs) or 2 ** len(signs) > MAX_SYSTEMS:
        return None
    return Node("list", tuple(Node("list", one, "and") for one in itertools.product(*signs)), ";")


def _without_membership(node: Node) -> Node:
    r"""Return what (x, y) \in \{(0, 0)\} or (x, y) = (0, 0) says is the value of its symbols."""
    if node.name == "in" and node.args[1].head in ("set",) and node.args[0].head in ("symbol", "()"):
        return node.args[1]
    named, value = node.args[0], node.args[-1]
    if node.name != "=" or named.head not in ("()", "set") or value.head not in ("()", "set", "list"):
        return node
    names_all = all(not is_number(arg) for arg in named.args) and len(named.args) == len(value.args)
    return value if names_all else node


def _signs(node: Node) -> list[Node]:
    r"""Return the node with \pm as plus and as minus, if it has any."""
    if not any(part.head in ("pm", "mp") for part in node.walk()):
        return [node]
    found = []
    for sign in (1, -1):
        found.append(
            node.rebuild(
                lambda part, sign=sign: (
                    Node("*", (number(sign if part.head == "pm" else -sign), part.args[0].rebuild(lambda inner: None)))  # type: ignore[misc]
                    if part.head in ("pm", "mp")
                    else None
                )
            )
        )
    return found if found[0].key != found[1].key else found[:1]
