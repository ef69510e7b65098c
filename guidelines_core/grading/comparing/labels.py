r"""Which side of an equation is a name, and which a number."""

from __future__ import annotations

from guidelines_core.grading.reading.nodes import CONSTANTS, Node, is_value, symbol

NOTHING = symbol("")  # stands before the sign in "\approx 3"
_QUALIFIERS = frozenset(
    "not no never nor about around nearly almost roughly approximately over under above below more less least most "  # noqa: SIM905
    "fewer greater than except unless maybe perhaps possibly wrong false incorrect if half twice double minus "
    "negative".split()
)
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
    if node.head in ("text", "opaque") and _QUALIFIERS & set(node.name.lower().split()):
        return False  # "not x", "more than x"
    if node.head in ("symbol", "text", "opaque", "point"):
        return not (node.head == "symbol" and node.name in CONSTANTS)
    if node.head in ("union", "intersection", "minus"):
        return all(is_label(arg) for arg in node.args)
    if _is_derivative(node):
        return True
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


def is_unsolved(side: Node) -> bool:
    """Tell whether a side is of an equation to be solved or of a curve, 3x or x^2/4 + y^2, and asks for no value."""
    if is_label(side) or not is_value(side):
        return False
    parts = [side]
    for part in parts:
        if part.head not in ("opaque", "apply"):
            parts.extend(part.args[:1] if part.head == "^" else part.args)
    names = {part.name for part in parts if part.head == "symbol" and part.name not in CONSTANTS}
    if not names or names & {"f", "g", "h", "..."}:
        return False
    has_number = any(part.head == "number" and abs(part.value or 0) != 1 for part in parts)
    return has_number and (len(names) == 1 or names <= {"x", "y", "z"})


def _is_derivative(node: Node) -> bool:
    r"""Tell whether a node is \frac{d}{dx} of something."""
    first = node.args[0] if node.head == "*" else node
    if first.head != "/":
        return False
    names = [next((part.name for part in side.walk() if part.head == "symbol"), "") for side in first.args]
    below = first.args[1]
    return names[0] in ("d", "partial") and below.head == "*" and below.args[0].name == names[0]


def all_labels(node: Node) -> bool:
    """Tell whether a list or tuple is made of names only."""
    return all(is_label(arg) for arg in node.args)
