r"""What is said of an answer's symbols: k \in \mathbb{Z}, x > 0."""

from __future__ import annotations

from guidelines_core.grading.reading.nodes import Node


def clauses_of(node: Node) -> list[str]:
    """Return what an answer says of its symbols."""
    return [part.name for part in node.walk() if part.head == "where"]


def without_clauses(node: Node) -> Node:
    """Return the answer without what it says of its symbols."""
    return node.rebuild(lambda part: without_clauses(part.args[0]) if part.head == "where" else None)


def clauses_agree(wanted: list[str], given: list[str]) -> bool:
    """Tell whether two answers may be the same by their clauses: what both say must not differ."""
    conditions = [{clause for clause in clauses if clause.startswith("if ")} for clauses in (wanted, given)]
    if conditions[0] and conditions[1] and conditions[0] != conditions[1]:
        return False
    fields = [{clause.partition(" in ")[2] for clause in clauses} - {""} for clauses in (wanted, given)]
    return not (fields[0] and fields[1]) or bool(fields[0] & fields[1])


def dummies(clauses: list[str]) -> set[str]:
    """Return the symbols that a clause calls integers."""
    return {
        name
        for clause in clauses
        for name in clause.partition(" in ")[0].split(",")
        if clause.partition(" in ")[2][:1] in ("Z", "N")
    }
