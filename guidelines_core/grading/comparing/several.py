r"""Lists, sets of values and systems: the order of their members has no meaning, their number has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from guidelines_core.grading.comparing.chains import assigned
from guidelines_core.grading.comparing.measures import measured, same_quantity
from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.comparing.vectors import all_of
from guidelines_core.grading.reading.nodes import Node, is_value

MAX_ITEMS = 40


def same_members(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare lists, sets and systems; the order of their members has no meaning, their number has."""
    if any(node.head == "symbol" and node.name == "emptyset" for node in (gold, answer)):
        return False
    if gold.name != answer.name and {"land", "lor"} & {gold.name, answer.name}:
        return False
    if gold.head == "list" and answer.head == "[]" and len(answer.args) > 2:
        answer = Node("list", answer.args, ",")
    if answer.head == "list" and len({arg.name for arg in answer.args}) > 1:
        together = measured(Node("compound", answer.args)) if all(a.head == "quantity" for a in answer.args) else None
        if together and measured(gold):  # 1 hour and 30 minutes
            return same_quantity(gold, Node("compound", answer.args))
    if answer.name == "or" and gold.name in (",", "and") and _names_several(answer, same):
        return False  # p = 3 or q = -2
    if {gold.name, answer.name} == {"and", "or"} and not any(
        part.head in ("number", "relation") for part in gold.walk()
    ):
        return False  # II and III
    stems = [_stems(node, same) for node in (gold, answer)]
    if stems[0] and stems[1] and stems[0] != stems[1]:
        return False  # x = 3, y = 4 and y = 3, y = 4
    if gold.head == answer.head == "set" and _holds_sets(gold) != _holds_sets(answer):
        return False  # {1, {2}} and {1, 2}
    wanted, given = _values(gold, same), _values(answer, same)
    if gold.head == "list" and answer.head == "()" and len({g.key for g in wanted}) == 1:
        given = list(answer.args)  # 3,3 as (3,3)
    if gold.head == "list" and answer.head == "()" and len(gold.args) == len(answer.args) > 2:
        return all_of(same(g, a) for g, a in zip(gold.args, answer.args, strict=True))
    if gold.head == "()" and answer.head == "list" and _counted(answer.args, same) == len(gold.args):
        wanted = list(gold.args)
        return all_of(same(g, a) for g, a in zip(wanted, given, strict=True)) if len(given) == len(wanted) else False
    tuples = _as_tuples(wanted, given, same)
    if tuples is not None:
        wanted, given = tuples
    if gold.head not in ("list", "set") and len(given) > 1:
        return _in_several_forms(gold, answer, same)
    if len(wanted) != len(given) or len(wanted) > MAX_ITEMS:
        return False
    return _matched(wanted, given, same)


def _names_several(node: Node, same: Same) -> bool:
    """Tell whether a list says of each of several unknowns what it is."""
    pairs = assigned(node.args, same)
    return pairs is not None and len({_stem(label) for label, _ in pairs}) == len(pairs) > 1


def _stems(node: Node, same: Same) -> set[str]:
    """Return the unknowns that a list of equations is about; nothing if it names anything else than symbols."""
    pairs = assigned(_members(node), same)
    if pairs is None or any(label.head != "symbol" for label, _ in pairs):
        return set()
    return {_stem(label) for label, _ in pairs}


def _holds_sets(node: Node) -> set[bool]:
    return {member.head == "set" for member in node.args}


def _members(node: Node) -> list[Node]:
    return list(node.args) if node.head in ("list", "set") else [node]


def _in_several_forms(gold: Node, answer: Node, same: Same) -> bool:
    """Tell whether a list has one value in up to four different forms: 1/2 or 50 %."""
    forms = answer.args
    if answer.head != "list" or len(forms) > 4 or len({form.key for form in forms}) < len(forms):
        return False
    if not (is_value(gold) or gold.head == "quantity") or any(form.head == "text" for form in forms):
        return False
    return all(same(gold, form) for form in forms)


def _counted(nodes: Sequence[Node], same: Same) -> int:
    """Return how many values x_1 = 1, x_2 = 2 … name in their order; 0 if it is another list."""
    pairs = assigned(nodes, same) or []
    names = [re.fullmatch(r"\w+_(\d+)", label.name) for label, _ in pairs]
    return len(pairs) if [name and name[1] for name in names] == [str(i + 1) for i in range(len(pairs))] else 0


def _stem(label: Node) -> str:
    return re.sub(r"_(?:\{?\d+\}?|[\d,]+)$", "", label.name) if label.head == "symbol" else label.key


def _values(node: Node, same: Same) -> list[Node]:
    """Return a list's members: the values where all are of one unknown (x_1 = 1, x_2 = 3), tuples where several."""
    members = _members(node)
    pairs = assigned(members, same)
    if pairs is None:
        if node.name == ";" or (members and all(member.head == "list" for member in members)):
            groups = [assigned(member.args, same) if member.head == "list" else None for member in members]
            if all(group is not None for group in groups):
                return [Node("()", tuple(value for _, value in group)) for group in groups if group]
        return members
    stems = [_stem(label) for label, _ in pairs]
    if len(members) > 1 and len(set(stems)) == 1:
        return [value for _, value in pairs]
    period = len(set(stems))
    if 1 < period < len(stems) and len(stems) % period == 0 and stems == stems[:period] * (len(stems) // period):
        values = [value for _, value in pairs]
        return [Node("()", tuple(values[start : start + period])) for start in range(0, len(values), period)]
    return members


def _as_tuples(wanted: list[Node], given: list[Node], same: Same) -> tuple[list[Node], list[Node]] | None:
    """Bring a system, x = 1 and y = 2, to what the other side is: a tuple, values, or the same system in an order."""
    first, second = assigned(wanted, same), assigned(given, same)
    if first is not None and second is not None and len(first) == len(second):
        labels = {label.key: value for label, value in second}
        if len(labels) == len(second) and {label.key for label, _ in first} == set(labels):
            return [Node("()", tuple(value for _, value in first))], [
                Node("()", tuple(labels[label.key] for label, _ in first))
            ]
        return None
    for system, other, swap in ((first, given, False), (second, wanted, True)):
        if system is None:
            continue
        values = [value for _, value in system]
        if any(item.head == "relation" for item in other):
            continue
        if len(other) == 1 and other[0].head == "()" and len(values) > 1:
            pair = [Node("()", tuple(values))], other
        elif len(other) == len(values):
            ordered = not swap and len({label.key for label, _ in system}) == len(system)
            pair = ([Node("()", tuple(values))], [Node("()", tuple(other))]) if ordered else (values, other)
        else:
            continue
        return (pair[1], pair[0]) if swap else pair
    return None


def _matched(wanted: list[Node], given: list[Node], same: Same) -> bool | None:
    """Tell whether each of the one has an equal of its own among the other."""
    left = list(given)
    unknown = False
    for item in wanted:
        for index, other in enumerate(left):
            verdict = same(item, other)
            if verdict:
                del left[index]
                break
            unknown = unknown or verdict is None
        else:
            return None if unknown else False
    return True
