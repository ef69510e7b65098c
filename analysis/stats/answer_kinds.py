r"""What kind of answer a gold is: integer, fraction, percent, text and so on, as the grader's parser reads it."""

from __future__ import annotations

from functools import lru_cache

from guidelines_core.grading.choices import choice_in
from guidelines_core.grading.clean import plain
from guidelines_core.grading.extract import gold_text
from guidelines_core.grading.reading.nodes import Node, is_value
from guidelines_core.grading.reading.parser import read
from guidelines_core.grading.units import unit_of

_COLLECTIONS = frozenset(
    {"()", "<>", "[]", "(]", "[)", "interval()", "set", "union", "intersection", "minus", "builder"}
)


@lru_cache(maxsize=100_000)
def answer_kind(gold: str) -> str:
    """Return the kind of a gold answer, in words."""
    text = gold_text(gold)
    if text is None:
        return "not readable"
    text = plain(text)
    choice = choice_in(text)
    if choice is not None and not choice.rest:
        return "letter of a choice"
    node = read(plain(choice.rest) if choice else text)
    while node is not None and node.head == "where":
        node = node.args[0]
    return "expression" if node is None else _kind(node)


def _kind(node: Node) -> str:
    """Return the kind of what a gold is read as."""
    if node.head == "*" and len(node.args) == 2 and node.args[0].value == -1:
        return _kind(node.args[1])
    if node.head == "quantity" or node.head == "compound" or node.name == "deg":
        percent = node.head == "quantity" and unit_of(node.name).name == "percent"
        return "percent" if percent else "number with a unit"
    if node.head == "number":
        return (
            "decimal" if "." in node.name else "integer" if node.value and node.value.denominator == 1 else "fraction"
        )
    if node.head == "/" and all(arg.head == "number" for arg in node.args):
        return "fraction"
    if node.name == "mixed":
        return "mixed number"
    if node.head in _COLLECTIONS:
        return "tuple, interval or set"
    if node.head == "matrix":
        return "matrix"
    if node.head == "text":
        return "text"
    if node.head == "list" or (is_value(node) and any(part.head in ("pm", "mp") for part in node.walk())):
        return "several values"
    return "equation or inequality" if node.head == "relation" else "expression"
