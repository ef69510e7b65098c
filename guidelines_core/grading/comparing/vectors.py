r"""Tuples, vectors and matrices, compared entry by entry."""

from __future__ import annotations

from collections.abc import Iterable

from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.reading.nodes import Node, is_value, number


def same_tuple(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare two tuples entry by entry; a i + b j is (a, b)."""
    if _vector(gold) and answer.head == "()":
        gold = _vector(gold) or gold
    if _vector(answer) and gold.head == "()":
        answer = _vector(answer) or answer
    if gold.head == "[]" and answer.head == "()" and len(gold.args) > 2:
        gold = Node("()", gold.args)
    if {gold.head, answer.head} - {"()", "<>", "[]"} or gold.head != answer.head or len(gold.args) != len(answer.args):
        return False
    return all_of(same(g, a) for g, a in zip(gold.args, answer.args, strict=True))


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return True if all verdicts are, False if one is, None if one is not known."""
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _vector(node: Node) -> Node | None:
    """Return a i + b j as the tuple (a, b); None for what has no unit vectors."""
    names = sorted(part.name for part in node.walk() if part.head == "symbol" and part.name.startswith("vector "))
    if not names or not is_value(node):
        return None
    size = 3 if "vector k" in names else 2

    def at(values: dict[str, int]) -> Node:
        return node.rebuild(
            lambda p: number(values.get(p.name, 0)) if p.head == "symbol" and p.name.startswith("vector ") else None
        )

    return Node("()", tuple(at({f"vector {name}": 1}) for name in "ijk"[:size]))


def same_matrix(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare two matrices or vectors; a row or a column is a tuple of its entries."""
    first, second = _entries(gold), _entries(answer)
    if first is None or second is None:
        return None
    if [len(row) for row in first] != [len(row) for row in second]:
        vector = {"()", "[]"} & {gold.head, answer.head}
        flat = [e for row in first for e in row], [e for row in second for e in row]
        if not vector or not (min(len(first), len(first[0])) == min(len(second), len(second[0])) == 1):
            return False
        if len(flat[0]) != len(flat[1]):
            return False
        return all_of(same(g, a) for g, a in zip(*flat, strict=True))
    return all_of(same(g, a) for r, s in zip(first, second, strict=True) for g, a in zip(r, s, strict=True))


def _entries(node: Node) -> list[list[Node]] | None:
    """Return a matrix's rows; of a tuple, a column."""
    if node.head == "matrix":
        return [list(row.args) for row in node.args]
    if node.head in ("()", "[]"):
        return [[arg] for arg in node.args]
    vector = _vector(node)
    if vector is not None:
        return [[arg] for arg in vector.args]
    if node.head == "*":
        matrices = [arg for arg in node.args if arg.head == "matrix"]
        others = tuple(arg for arg in node.args if arg.head != "matrix")
        if len(matrices) == 1 and all(is_value(arg) for arg in others):
            return [[Node("*", (*others, cell)) for cell in row.args] for row in matrices[0].args]
    return None
