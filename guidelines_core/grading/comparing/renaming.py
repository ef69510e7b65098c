r"""Names that mean nothing: an integer parameter (k or n), a function's argument, the constant C."""

from __future__ import annotations

import re

from guidelines_core.grading.comparing.labels import is_label
from guidelines_core.grading.reading.nodes import Node, symbol, symbols_in


def renamed(gold: Node, answer: Node, gold_dummies: set[str], answer_dummies: set[str]) -> Node:
    """Return the answer with the name of its integer parameter, or of its function's argument, as in the gold."""
    if gold.head == answer.head == "list" and len(gold.args) == len(answer.args):
        pairs = [renamed(g, a, gold_dummies, answer_dummies) for g, a in zip(gold.args, answer.args, strict=True)]
        if any(g.head == "relation" for g in gold.args):
            return Node("list", tuple(pairs), answer.name)
    if gold.head == answer.head == "relation" and gold.name.split()[0] == answer.name.split()[0] == "=":
        first, second = gold.args[0], answer.args[0]
        if (
            first.head == second.head == "opaque"
            and first.name == second.name == "of"
            and first.args[0] == second.args[0]
        ):
            names = [(g, a) for g, a in zip(first.args[1:], second.args[1:], strict=False)]
            if len(first.args) == len(second.args) and all(g.head == a.head == "symbol" for g, a in names):
                answer = _substituted(answer, {a.name: g.name for g, a in names})
        indices = [re.fullmatch(r"(\w+)_([a-z])", side.name) for side in (first, second) if side.head == "symbol"]
        if len(indices) == 2 and indices[0] and indices[1] and indices[0][1] == indices[1][1]:
            return _substituted(answer, {indices[1][2]: indices[0][2], second.name: first.name})
    extra, missing = symbols_in(answer) - symbols_in(gold), symbols_in(gold) - symbols_in(answer)
    if gold.head == "relation" and answer.head != "relation" and is_label(gold.args[0]):
        missing -= symbols_in(gold.args[0])
    elif answer.head == "relation" and gold.head != "relation" and is_label(answer.args[0]):
        extra -= symbols_in(answer.args[0])
    if len(extra) == len(missing) == 1:
        new, old = extra.pop(), missing.pop()
        given, wanted = new in answer_dummies or _is_period(answer, new), old in gold_dummies or _is_period(gold, old)
        several = gold.head in ("()", "list", "set", "relation")
        if {new, old} == {"c", "C"} or (given and wanted) or (several and (given or wanted)):
            return _substituted(answer, {new: old})
    return answer


def _is_period(node: Node, name: str) -> bool:
    """Tell whether a symbol is an integer parameter, as in k\\pi."""
    if name not in ("k", "n", "m", "l", "ell"):
        return False
    for part in node.walk():
        if part.head == "*":
            parts = {inner.name for arg in part.args for inner in arg.walk() if inner.head in ("symbol", "apply")}
            if name in parts and ("pi" in parts or "deg" in parts):
                return True
    return False


def _substituted(node: Node, names: dict[str, str]) -> Node:
    """Return the node with symbols renamed; unchanged if a new name is taken."""
    taken = {part.name for part in node.walk() if part.head == "symbol"} - set(names)
    if taken & set(names.values()) or len(set(names.values())) < len(names):
        return node
    return node.rebuild(lambda part: symbol(names[part.name]) if part.head == "symbol" and part.name in names else None)
