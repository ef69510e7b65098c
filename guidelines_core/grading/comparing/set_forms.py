r"""Sets of real numbers in each other's form: intervals, inequalities, set-builders."""

from __future__ import annotations

from guidelines_core.grading.comparing.intervals import same_set
from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.comparing.sets import real_set
from guidelines_core.grading.reading.nodes import Node, is_value

_SET_HEADS = frozenset({"union", "intersection", "minus", "builder", "(]", "[)", "interval()"})


def same_as_sets(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare as sets of real numbers, if one of them is written as such and both are."""
    if not any(_is_set(node) for node in (gold, answer)) or "matrix" in (gold.head, answer.head):
        return None
    if answer.head == "list" and len({arg.key for arg in answer.args}) < len(answer.args):
        return False
    if gold.head == "union" and answer.head == "list" and all(arg.head != "relation" for arg in answer.args):
        answer = Node("union", answer.args)
    if "list" in (gold.head, answer.head) and "union" in (gold.head, answer.head):
        gold, answer = (
            Node("set", node.args) if node.head == "list" and all(map(is_value, node.args)) else node
            for node in (gold, answer)
        )
    wanted, given = real_set(gold), real_set(answer)
    if wanted is None or given is None:
        if gold.head == answer.head and gold.head in ("relation", "list"):
            return None
        if wanted is None and given is None and gold.head == answer.head:
            return (
                all(same(g, a) for g, a in zip(gold.args, answer.args, strict=False))
                if len(gold.args) == len(answer.args)
                else False
            )
        return None if _may_be_named(gold, answer) else False
    return same_set(wanted, given)


def _may_be_named(gold: Node, answer: Node) -> bool:
    return (
        "relation" in (gold.head, answer.head)
        or "list" in (gold.head, answer.head)
        or "set" in (gold.head, answer.head)
    )


def _is_set(node: Node) -> bool:
    if node.head in _SET_HEADS:
        return True
    if node.head == "symbol":
        return node.name.startswith("field R") or node.name == "emptyset"
    if node.head == "relation":
        return all(sign in ("<", ">", "<=", ">=", "!=", "in", "notin") for sign in node.name.split())
    if node.head == "[]":
        return len(node.args) == 2
    if node.head == "list":
        return any(_is_set(arg) for arg in node.args) and node.args[0].head == "relation"
    return False
