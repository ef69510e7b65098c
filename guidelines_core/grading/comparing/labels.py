r"""Which side of an equation is a name, and which a number."""

from __future__ import annotations

from guidelines_core.grading.reading.nodes import CONSTANTS, Node, is_value, symbol

NOTHING = symbol("")  # stands before the sign in "\approx 3"
TRIGONOMETRIC = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})


def is_number(node: Node) -> bool:
    """Tell whether a node is a value that no unknown is in."""
    if node.head == "quantity":
        return is_number(node.args[0])
    return is_value(node) and not any(
        part.head == "opaque" or (part.head == "symbol" and part.name not in CONSTANTS) for part in node.walk()
    )


def is_label(node: Node) -> bool:
    """Tell whether a side of an equation only names the other: x, f(x), \text{Area}, AB, M_{min}, \\sum…"""
    if node.head in ("symbol", "text", "opaque", "point"):
        return not (node.head == "symbol" and node.name in CONSTANTS)
    if node.head in ("union", "intersection", "minus"):
        return all(is_label(arg) for arg in node.args)
    if node.head in ("*", "/"):
        return all(is_label(arg) and arg.head in ("symbol", "*") for arg in node.args)
    if node.head == "apply" and node.name in (
        "abs",
        "norm",
        *TRIGONOMETRIC,
        "det",
        "log",
        "ln",
        "log10",
        "floor",
        "binom",
        "gcd",
        "lcm",
    ):
        return not is_number(node) or node.name in ("gcd", "lcm", "binom")
    return False


def all_labels(node: Node) -> bool:
    """Tell whether a list or tuple is made of names only."""
    return all(is_label(arg) for arg in node.args)
