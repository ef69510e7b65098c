r"""Equations, inequalities and other statements, compared with each other and with plain values."""

from __future__ import annotations

from guidelines_core.grading.comparing.chains import name_and_value, result_of
from guidelines_core.grading.comparing.labels import NOTHING, is_label, is_number
from guidelines_core.grading.comparing.same import Same
from guidelines_core.grading.comparing.set_forms import same_as_sets
from guidelines_core.grading.comparing.values import ratio_sign, same_value
from guidelines_core.grading.comparing.words import same_words
from guidelines_core.grading.reading.nodes import Node, is_value, number, symbol, symbols_in

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_OTHERS_FLIPPED = {"subset": "supset", "supset": "subset"}
_SYMMETRIC = {"=", "!=", "<=>", "parallel", "perp", "cong", "sim"}


def same_statement(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare a gold that is a relation with an answer of any form."""
    signs, sides = gold.name.split(), gold.args
    if signs == ["~"] and (sides[0] == NOTHING or is_label(sides[0])):
        if answer.head == "relation" and answer.name == "~":
            return (answer.args[0] == NOTHING or is_label(answer.args[0])) and same(sides[1], answer.args[1])
        return same(sides[1], answer)
    if set(signs) == {"="} or (signs[-1] == "~" and set(signs[:-1]) <= {"="}):
        return _equation(gold, answer, same)
    if answer.head != "relation":
        return False
    return same_relation(gold, answer, same)


def _equation(gold: Node, answer: Node, same: Same) -> bool | None:
    named = name_and_value(gold, same)
    if len(gold.args) > 2 and answer.head == "relation" and answer.name == gold.name and all(map(is_label, gold.args)):
        return sorted(side.key for side in gold.args) == sorted(side.key for side in answer.args)  # a = b = c
    if answer.head == "relation" and same_relation(gold, answer, same):
        return True
    if answer.head != "relation":
        if named is not None:
            return same(named[1], answer)
        if len(gold.args) == 2 and is_value(answer) and "y" in symbols_in(gold) - symbols_in(answer):
            return _solves(Node("relation", (symbol("y"), answer), "="), gold)
        if answer.head == "list" or not all(is_number(side) for side in gold.args):
            return False
        return all(same(side, answer) for side in gold.args)
    if "!=" in answer.name.split() and "=" in answer.name.split():
        return False
    if "=" not in answer.name.split():
        return False if named is None else same_as_sets(gold, answer, same) or False
    other = name_and_value(answer, same)
    if named and other is None and len(answer.args) == 2 and named[0].head == "symbol":
        return _solves(gold, answer)
    if other and named is None and len(gold.args) == 2 and other[0].head == "symbol":
        return _solves(answer, gold)
    if named and other:
        if _other_index(named[0], other[0]):
            return False
        if _same_label(named[0], other[0]):
            return same(named[1], other[1])
        if _solves(gold, answer) or _solves(answer, gold):
            return True
        if _in_part(named[0], other[0]):
            return False
        if named[0].head == other[0].head == "symbol" and not (is_number(named[1]) and is_number(other[1])):
            return _inverse(gold, answer)
        return False if named[0].head == other[0].head else same(named[1], other[1])
    if len(gold.args) == len(answer.args) == 2:
        return same_relation(gold, answer, same)
    if named and len(answer.args) > 2:
        if answer.args[0].key != named[0].key and not (answer.args[0].head == "symbol" != named[0].head):
            return False
        result = result_of(Node("relation", answer.args[1:], " ".join(answer.name.split()[1:])), named[1], same)
        return False if result is None else same(named[1], result)
    if len(gold.args) == len(answer.args):
        return bool(same_relation(gold, answer, same))
    return False


def _other_index(first: Node, second: Node) -> bool:
    """Tell whether two names are of one sequence or function, at another index: a_n and a_{n+1}."""
    parts = [_base_and_index(label) for label in (first, second)]
    return parts[0][0] == parts[1][0] != "" and parts[0][1] != parts[1][1]


def _in_part(first: Node, second: Node) -> bool:
    """Tell whether one name is a symbol that the other is made of: x and xy, x and f(x)."""
    labels = sorted((first, second), key=lambda label: len(list(label.walk())))
    if labels[1].name == "of" and labels[1].args[0].key == labels[0].key:
        return False  # f and f(x)
    return labels[0].head == "symbol" != labels[1].head and labels[0].name in symbols_in(labels[1])


def _base_and_index(label: Node) -> tuple[str, str]:
    if label.head == "symbol" and "_" in label.name:
        base, _, index = label.name.partition("_")
        return base, f"s:{index}"
    if label.head == "opaque" and label.name == "_" and label.args[0].head == "symbol":
        return label.args[0].name, label.args[1].key
    return "", ""


def _same_label(first: Node, second: Node) -> bool:
    if first.key == second.key:
        return True
    if first.head == second.head == "text":
        return same_words(first.name, second.name)
    if first.name == second.name == "of":
        return first.key.casefold() == second.key.casefold()
    return False


def same_relation(gold: Node, answer: Node, same: Same) -> bool | None:
    """Compare two relations side by side, flipped, or multiplied by a constant."""
    signs, others = gold.name.split(), answer.name.split()
    sides, given = gold.args, answer.args
    if len(signs) != len(others):
        return False
    if signs == others == ["equiv"]:
        return _same_congruence(gold, answer)
    if all(is_number(side) for side in sides):
        return signs == others and all(g.key == a.key for g, a in zip(sides, given, strict=True))
    if signs == others and all(same(g, a) for g, a in zip(sides, given, strict=True)):
        return True
    flipped = [{**_FLIPPED, **_OTHERS_FLIPPED}.get(sign, sign) for sign in reversed(others)]
    if (
        signs == flipped
        and set(signs) <= {*_SYMMETRIC, *_FLIPPED, *_OTHERS_FLIPPED}
        and all(same(g, a) for g, a in zip(sides, reversed(given), strict=True))
    ):
        return True
    if len(signs) != 1 or signs[0] not in ("=", "!=", *_FLIPPED) or not all(map(is_value, (*sides, *given))):
        return False
    if not (symbols_in(Node("+", sides)) and symbols_in(Node("+", given))):
        return False
    sign = ratio_sign(_minus(*sides), _minus(*given))
    if sign is None:
        return False
    if signs[0] in ("=", "!="):
        return signs == others
    return signs == (others if sign > 0 else [_FLIPPED[others[0]]])


def _same_congruence(gold: Node, answer: Node) -> bool:
    """Compare x = 3 (mod 5) with another congruence of x: the same modulus, and the same remainder."""
    first, second = gold.args[1], answer.args[1]
    if gold.args[0].key != answer.args[0].key or not first.name == second.name == "mod":
        return gold.key == answer.key
    remainders = (
        Node("apply", (first.args[0], first.args[1]), "mod"),
        Node("apply", (second.args[0], first.args[1]), "mod"),
    )
    return same_value(first.args[1], second.args[1]) is True and same_value(*remainders) is True


def _minus(left: Node, right: Node) -> Node:
    return Node("+", (left, Node("*", (number(-1), right))))


def _solves(solved: Node, equation: Node) -> bool:
    """Tell whether v = F is all that an equation says of v: it holds for F, and is linear in v."""
    if len(solved.args) != 2 or len(equation.args) != 2 or solved.args[0].head != "symbol":
        return False
    if not all(map(is_value, (*solved.args, *equation.args))):
        return False
    name, zero = solved.args[0].name, _minus(*equation.args)
    if name in symbols_in(solved.args[1]) or name not in symbols_in(zero):
        return False

    def at(value: Node) -> Node:
        return zero.rebuild(lambda part: value if part.head == "symbol" and part.name == name else None)

    steps = [_minus(at(number(value + 2)), at(number(value))) for value in (3, 5, 8)]
    linear = all(same_value(steps[0], step) for step in steps[1:]) and not same_value(steps[0], number(0))
    if ratio_sign(steps[0], number(1)) is None and not _may_be_undefined(solved.args[1]):
        return False  # xy = 0 is more than x = 0
    return linear and same_value(at(solved.args[1]), number(0)) is True


def _may_be_undefined(node: Node) -> bool:
    """Tell whether an expression has a denominator or the like, which its symbols may make 0."""
    return any(
        part.head == "/"
        or (part.head == "^" and any(p.head == "number" and p.value is not None and p.value < 0 for p in part.walk()))
        or (part.head == "apply" and part.name in ("csc", "sec", "cot", "tan", "log", "ln", "log10"))
        for part in node.walk()
    )


def _inverse(gold: Node, answer: Node) -> bool:
    """Tell whether y = f(x) and x = g(y) are each other's inverse."""
    y, x = gold.args[0], answer.args[0]
    if symbols_in(gold.args[1]) != {x.name} or symbols_in(answer.args[1]) != {y.name}:
        return False

    def put(node: Node, name: str, value: Node) -> Node:
        return node.rebuild(lambda part: value if part.head == "symbol" and part.name == name else None)

    there = same_value(put(answer.args[1], y.name, gold.args[1]), x)
    back = same_value(put(gold.args[1], x.name, answer.args[1]), y)
    return bool(there and back)
