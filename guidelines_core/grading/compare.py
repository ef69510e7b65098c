r"""Whether two answers, read as nodes, say the same: by what they are, then by their values.

None where neither can be said, for math-verify to judge. Wherever an answer could be taken for more than one thing, it
is wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from guidelines_core.grading.nodes import CONSTANTS, Node, is_value, number, symbol, symbols_in
from guidelines_core.grading.sets import real_set, same_set
from guidelines_core.grading.units import Unit, factors, unit_of
from guidelines_core.grading.values import ratio_sign, rational, real_number, rounds_to, same_value
from guidelines_core.grading.words import same_words, value_of

MAX_ITEMS = 40
_TRIGONOMETRIC = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
_SET_HEADS = frozenset({"union", "intersection", "minus", "builder", "(]", "[)", "interval()"})
NOTHING = symbol("")  # stands before the sign in "\approx 3"
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def equal(gold: Node, answer: Node) -> bool | None:
    """Tell whether an answer says the same as the gold."""
    if gold.key == answer.key:
        return True
    gold_clause, answer_clause = _clauses(gold), _clauses(answer)
    gold, answer = _without_clauses(gold), _without_clauses(answer)
    fields = {clause.partition(" in ")[2] for clause in gold_clause}, {c.partition(" in ")[2] for c in answer_clause}
    conditions = [
        {clause for clause in clauses if clause.startswith("if ")} for clauses in (gold_clause, answer_clause)
    ]
    if conditions[0] and conditions[1] and conditions[0] != conditions[1]:
        return False
    if (fields[0] - {""}) and (fields[1] - {""}) and not (fields[0] & fields[1]):
        return False
    gold, answer = _in_plain_form(gold), _in_plain_form(answer)
    answer = _renamed(gold, answer, _dummies(gold_clause), _dummies(answer_clause))
    return _equal(gold, answer)


# -- forms -------------------------------------------------------------------------------------------------------


def _clauses(node: Node) -> list[str]:
    return [part.name for part in node.walk() if part.head == "where"]


def _without_clauses(node: Node) -> Node:
    return node.rebuild(lambda part: _without_clauses(part.args[0]) if part.head == "where" else None)


def _dummies(clauses: list[str]) -> set[str]:
    """Return the symbols that a clause calls integers."""
    return {
        name
        for clause in clauses
        for name in clause.partition(" in ")[0].split(",")
        if clause.partition(" in ")[2][:1] in ("Z", "N")
    }


def _in_plain_form(node: Node) -> Node:
    """Return the answer without what only names it, with flat lists, both signs written out and words as values."""
    if node.head == "text":
        return value_of(node.name) or node
    if node.head == "point":
        return _in_plain_form(node.args[0])
    if node.head == "matrix" and len(node.args) == len(node.args[0].args) == 1:
        return _in_plain_form(node.args[0].args[0])
    if node.head == "opaque" and node.name == "of" and len(node.args) > 2 and node.args[0].name.isupper():
        return _in_plain_form(Node("()", node.args[1:]))  # P(1, 2)
    if node.head == "relation":
        node = _without_membership(node)
    if node.head == "list":
        node = _distributed(node)
        systems = _systems(node)
        if systems is not None:
            return systems
        parts = [_in_plain_form(arg) for arg in node.args]
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
        if any(len(several) > 1 for several in each) and 2 ** len(each) <= MAX_ITEMS:
            return Node("list", tuple(Node("()", one) for one in itertools.product(*each)), ",")
        return node
    signs = _signs(node)
    return node if len(signs) == 1 else Node("list", tuple(signs), ",")


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


def _systems(node: Node) -> Node | None:
    r"""Return x = 1, y = \pm 2 as two systems; None for any other list."""
    pairs = _assigned(node.args) if all(arg.head == "relation" for arg in node.args) else None
    if pairs is None or len({label.key for label, _ in pairs}) < len(pairs):
        return None
    signs = [_signs(arg) for arg in node.args]
    if all(len(several) == 1 for several in signs) or 2 ** len(signs) > MAX_ITEMS:
        return None
    return Node("list", tuple(Node("list", one, "and") for one in itertools.product(*signs)), ";")


def _without_membership(node: Node) -> Node:
    r"""Return what (x, y) \in \{(0, 0)\} or (x, y) = (0, 0) says is the value of its symbols."""
    if node.name == "in" and node.args[1].head in ("set",) and node.args[0].head in ("symbol", "()"):
        return node.args[1]
    named, value = node.args[0], node.args[-1]
    if node.name != "=" or named.head not in ("()", "set") or value.head not in ("()", "set", "list"):
        return node
    names_all = all(not _is_number(arg) for arg in named.args) and len(named.args) == len(value.args)
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


def _is_number(node: Node) -> bool:
    """Tell whether a node is a value that no unknown is in."""
    if node.head == "quantity":
        return _is_number(node.args[0])
    return is_value(node) and not any(
        part.head == "opaque" or (part.head == "symbol" and part.name not in CONSTANTS) for part in node.walk()
    )


def _is_label(node: Node) -> bool:
    """Tell whether a side of an equation only names the other: x, f(x), \text{Area}, AB, M_{min}, \\sum…"""
    if node.head in ("symbol", "text", "opaque", "point"):
        return not (node.head == "symbol" and node.name in CONSTANTS)
    if node.head in ("union", "intersection", "minus"):
        return all(_is_label(arg) for arg in node.args)
    if node.head in ("*", "/"):
        return all(_is_label(arg) and arg.head in ("symbol", "*") for arg in node.args)
    if node.head == "apply" and node.name in (
        "abs",
        "norm",
        *_TRIGONOMETRIC,
        "det",
        "log",
        "ln",
        "log10",
        "floor",
        "binom",
        "gcd",
        "lcm",
    ):
        return not _is_number(node) or node.name in ("gcd", "lcm", "binom")
    return False


def _renamed(gold: Node, answer: Node, gold_dummies: set[str], answer_dummies: set[str]) -> Node:
    """Return the answer with the name of its integer parameter, or of its function's argument, as in the gold."""
    if gold.head == answer.head == "list" and len(gold.args) == len(answer.args):
        pairs = [_renamed(g, a, gold_dummies, answer_dummies) for g, a in zip(gold.args, answer.args, strict=True)]
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
    if gold.head == "relation" and answer.head != "relation" and _is_label(gold.args[0]):
        missing -= symbols_in(gold.args[0])
    elif answer.head == "relation" and gold.head != "relation" and _is_label(answer.args[0]):
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


# -- comparison by form --------------------------------------------------------------------------------------------


def _equal(gold: Node, answer: Node) -> bool | None:
    if gold.key == answer.key:
        return True
    if gold.head == "text" or answer.head == "text":
        return _words(gold, answer)
    if (
        (gold.head == "relation" and gold.name == ":")
        or (answer.head == "relation" and answer.name == ":")
        or _clock(gold)
        or _clock(answer)
    ):
        return _ratio(gold, answer)
    as_set = _as_sets(gold, answer)
    if as_set is not None:
        return as_set
    if gold.head == "relation":
        return _relation(gold, answer)
    if answer.head == "relation":
        result = _result(answer, gold)
        return False if result is None else _equal(gold, result)
    if gold.head == "list" and answer.head == "[]" and len(answer.args) > 2:
        answer = Node("list", answer.args, ",")
    if gold.head in ("list", "set") or answer.head in ("list", "set"):
        return _several(gold, answer)
    if gold.head == "matrix" or answer.head == "matrix":
        return _matrix(gold, answer)
    if gold.head in ("()", "[]", "<>") or answer.head in ("()", "[]", "<>"):
        return _tuple(gold, answer)
    if gold.head == "based" or answer.head == "based":
        return _based(gold, answer)
    return _quantity(gold, answer)


def _words(gold: Node, answer: Node) -> bool:
    if gold.head == answer.head == "text":
        return same_words(gold.name, answer.name)
    if gold.head == "text":
        letters = answer.name if answer.head == "symbol" else ""
        return same_words(gold.name, letters) if letters else False
    if answer.head == "text" and gold.head in ("symbol", "*") and len(answer.name) < 30:
        return gold.head == "symbol" and same_words(gold.name, answer.name)
    return False


def _as_sets(gold: Node, answer: Node) -> bool | None:
    """Compare as sets of real numbers, if one of them is written as such and both are."""
    if not any(_is_set(node) for node in (gold, answer)):
        return None
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
                all(_equal(g, a) for g, a in zip(gold.args, answer.args, strict=False))
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
        return all(sign in ("<", ">", "<=", ">=", "!=", "in") for sign in node.name.split())
    if node.head == "[]":
        return len(node.args) == 2
    if node.head == "list":
        return any(_is_set(arg) for arg in node.args) and node.args[0].head == "relation"
    return False


# -- numbers and expressions -----------------------------------------------------------------------------------------


def _measured(node: Node) -> tuple[Node, Unit | None] | None:
    """Return a value and its unit; None for what is no value."""
    if node.head == "compound":
        return _compound(node)
    if node.head == "quantity":
        return (node.args[0], unit_of(node.name)) if is_value(node.args[0]) else None
    if not is_value(node):
        return None
    bare = _without_degrees(node)
    return (bare, Unit("degree")) if bare.key != node.key else (node, None)


def _compound(node: Node) -> tuple[Node, Unit] | None:
    first = unit_of(node.args[0].name)
    total: list[Node] = []
    for part in node.args:
        scale = factors(first, unit_of(part.name))
        if len(scale) != 1:
            return None
        total.append(Node("*", (number(scale[0]), part.args[0])))
    return Node("+", tuple(total)), first


def _without_degrees(node: Node) -> Node:
    def change(part: Node) -> Node | None:
        if part.head == "apply" and part.name == "deg":
            return _without_degrees(part.args[0])
        return part if part.head == "apply" and part.name in _TRIGONOMETRIC else None

    return node.rebuild(change)


def _quantity(gold: Node, answer: Node) -> bool | None:
    wanted, given = _measured(gold), _measured(answer)
    if wanted is None or given is None:
        return None
    if _has_dots(gold) != _has_dots(answer):
        return False
    scales = [Node("number", value=factor) for factor in factors(wanted[1], given[1])]
    pi = symbol("pi")
    names = wanted[1].name if wanted[1] else "", given[1].name if given[1] else ""
    has_pi = any(
        part.key == pi.key or part.name.startswith("arc") for node in (wanted[0], given[0]) for part in node.walk()
    )
    if names[0] == "degree" and names[1] in ("", "radian") and (has_pi or names[1]):
        scales.append(Node("/", (number(180), pi)))
    if names[1] == "degree" and names[0] in ("", "radian") and (has_pi or names[0]):
        scales.append(Node("/", (pi, number(180))))
    unknown = False
    for scale in scales:
        value = given[0] if scale.value == 1 else Node("*", (scale, given[0]))
        verdict = same_value(wanted[0], value)
        if verdict or rounds_to(wanted[0], value) or (scale.value == 1 and rounds_to(given[0], wanted[0])):
            return True
        unknown = unknown or verdict is None
    return None if unknown else False


def _has_dots(node: Node) -> bool:
    return any(part.head == "symbol" and part.name == "..." for part in node.walk())


def _based(gold: Node, answer: Node) -> bool:
    """Compare numbers that name their base; an answer may leave out the one that the gold names."""
    if gold.head == answer.head:
        return gold.args[0].value == answer.args[0].value
    if gold.head == "based":
        return answer.head == "number" and (answer.name or str(answer.value)) == gold.name
    return gold.head == "number" and gold.value == answer.args[0].value


# -- relations -------------------------------------------------------------------------------------------------------


def _relation(gold: Node, answer: Node) -> bool | None:
    signs, sides = gold.name.split(), gold.args
    if signs == ["~"] and (sides[0] == NOTHING or _is_label(sides[0])):
        return _equal(sides[1], answer.args[1] if answer.head == "relation" and answer.name == "~" else answer)
    if set(signs) == {"="} or (signs[-1] == "~" and set(signs[:-1]) <= {"="}):
        return _equation(gold, answer)
    if answer.head != "relation":
        return False
    return _same_relation(gold, answer)


def _equation(gold: Node, answer: Node) -> bool | None:
    named = _named(gold)
    if len(gold.args) > 2 and answer.head == "relation" and answer.name == gold.name and all(map(_is_label, gold.args)):
        return sorted(side.key for side in gold.args) == sorted(side.key for side in answer.args)  # a = b = c
    if answer.head == "relation" and _same_relation(gold, answer):
        return True
    if answer.head != "relation":
        if named is not None:
            return _equal(named[1], answer)
        if len(gold.args) == 2 and is_value(answer) and "y" in symbols_in(gold) - symbols_in(answer):
            return _solves(Node("relation", (symbol("y"), answer), "="), gold)
        if answer.head == "list" or not all(_is_number(side) for side in gold.args):
            return False
        return all(_equal(side, answer) for side in gold.args)
    if "=" not in answer.name.split():
        return False if named is None else _as_sets(gold, answer) or False
    other = _named(answer)
    if named and other is None and len(answer.args) == 2 and named[0].head == "symbol":
        return _solves(gold, answer)
    if other and named is None and len(gold.args) == 2 and other[0].head == "symbol":
        return _solves(answer, gold)
    if named and other:
        if _same_label(named[0], other[0]):
            return _equal(named[1], other[1])
        if _solves(gold, answer) or _solves(answer, gold):
            return True
        if named[0].head == other[0].head == "symbol" and not (_is_number(named[1]) and _is_number(other[1])):
            return _inverse(gold, answer)
        return False if named[0].head == other[0].head else _equal(named[1], other[1])
    if len(gold.args) == len(answer.args) == 2:
        return _same_relation(gold, answer)
    if named and len(answer.args) > 2:
        if answer.args[0].key != named[0].key and not (answer.args[0].head == "symbol" != named[0].head):
            return False
        result = _result(Node("relation", answer.args[1:], " ".join(answer.name.split()[1:])), named[1])
        return False if result is None else _equal(named[1], result)
    if len(gold.args) == len(answer.args):
        return bool(_same_relation(gold, answer))
    return False


def _named(node: Node) -> tuple[Node, Node] | None:
    """Return the name and the value of x = 3, 3 = x or S = 1 + 2 = 3; None for any other equation."""
    sides = node.args
    if not all(sign == "=" for sign in node.name.split()):
        return None
    if len(sides) == 2:
        if _is_label(sides[0]):
            return (sides[0], sides[1])
        return (sides[1], sides[0]) if sides[1].head == "symbol" and _is_label(sides[1]) else None
    if _is_label(sides[0]):
        result = _result(Node("relation", sides[1:], " ".join(node.name.split()[1:])), sides[-1])
        return None if result is None else (sides[0], result)
    return None


def _same_label(first: Node, second: Node) -> bool:
    if first.key == second.key:
        return True
    if first.head == second.head == "text":
        return same_words(first.name, second.name)
    return False


def _same_relation(gold: Node, answer: Node) -> bool | None:
    signs, others = gold.name.split(), answer.name.split()
    sides, given = gold.args, answer.args
    if len(signs) != len(others):
        return False
    if all(_is_number(side) for side in sides):
        return signs == others and all(g.key == a.key for g, a in zip(sides, given, strict=True))
    if signs == others and all(_equal(g, a) for g, a in zip(sides, given, strict=True)):
        return True
    flipped = [_FLIPPED.get(sign, sign) for sign in reversed(others)]
    if (
        signs == flipped
        and set(signs) <= {"=", "!=", "<=>", *_FLIPPED}
        and all(_equal(g, a) for g, a in zip(sides, reversed(given), strict=True))
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
    return linear and same_value(at(solved.args[1]), number(0)) is True


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


def _result(chain: Node, gold: Node) -> Node | None:
    """Return what a chain of equations, S = 3 + 4 = 7, comes to; None if it contradicts itself or says more."""
    signs, sides = chain.name.split(), list(chain.args)
    if signs == ["equiv"]:
        return _remainder(*sides)
    rounded = _measured(sides[-1]) if set(signs) <= {"=", "~"} else None
    is_gold = rounded and rounded[0].head == "number" and "." in rounded[0].name and _equal(gold, sides[-1])
    if is_gold and all(side == NOTHING or _is_label(side) or _is_about(side, sides[-1]) for side in sides[:-1]):
        return sides[-1]  # the gold itself is a rounded decimal
    while signs and signs[-1] == "~" and len(sides) > 1:
        if not _is_about(sides[-2], sides[-1]):
            return None
        if rational(sides[-2]) is None and not _is_number(sides[-2]):
            break
        signs, sides = signs[:-1], sides[:-1]
    if not signs:
        return sides[0]
    if set(signs) == {"in"} and len(sides) == 2 and sides[0].head == "symbol":
        return sides[1]
    if signs == ["->"] and _is_label(sides[0]):
        return None
    if set(signs) != {"="}:
        return None
    last = sides[-1]
    if sides[-1].head == "symbol" and _is_label(sides[-1]) and len(sides) == 2 and _is_number(sides[0]):
        return sides[0]
    gold_is_number = _is_number(gold) or gold.head in ("based", "compound")
    for index, side in enumerate(sides[:-1]):
        if "matrix" in (last.head, side.head) and _matrix(last, side):
            continue
        if (is_value(side) and _is_number(side)) or side.head == "quantity":
            if _quantity(last, side) is False and _quantity(side, last) is False:
                return None
            if not (is_value(last) or last.head in ("quantity", "compound", "based")):
                return None
            continue
        if side.head == "relation" or (side.head in ("list", "()", "set", "[]") and not _all_labels(side)):
            return None
        if index and side.head == "*" and [arg.head for arg in side.args] == ["number", "symbol"]:
            return None  # x=3 y=4
        if gold_is_number or (index == 0 and _is_label(side)):
            continue
        if is_value(last) and is_value(side) and same_value(last, side):
            continue
        if not _is_label(side):
            return None
        if index and side.head == "symbol" and symbols_in(last):
            return None
    return last


def _remainder(number_: Node, rest: Node) -> Node | None:
    r"""Return what 10 \equiv 1 \pmod 3 says the remainder is; None if it is not."""
    value, modulus = (rest.args[0], rest.args[1]) if rest.head == "apply" and rest.name == "mod" else (rest, None)
    if modulus is None:
        return None
    if _is_number(number_):
        whole = [rational(node) for node in (number_, value, modulus)]
        if None in whole or whole[2] == 0 or (whole[0] - whole[1]) % whole[2] != 0:  # type: ignore[operator]
            return None
    return value


def _all_labels(node: Node) -> bool:
    return all(_is_label(arg) for arg in node.args)


def _is_about(exact: Node, decimal: Node) -> bool:
    """Tell whether a decimal is about a number: wrong by no more than one in its last place."""
    first, second = _measured(exact), _measured(decimal)
    value, given = real_number(first[0]) if first else None, real_number(second[0]) if second else None
    if value is None or given is None:
        return False
    places = max((len(part.name.partition(".")[2]) for part in decimal.walk() if part.head == "number"), default=0)
    return abs(float(value) - float(given)) <= (1.01 if places else 0.5) * 10.0**-places


# -- ratios and times -------------------------------------------------------------------------------------------------


def _clock(node: Node) -> tuple[Fraction, str] | None:
    """Return the minutes of 4:30 p.m. and the half of the day, nothing if that is not said."""
    half = ""
    if node.head == "quantity" and unit_of(node.name).name in ("am", "pm"):
        half = unit_of(node.name).name
        hours = node.args[0].value
        return (hours * 60, half) if hours is not None else None
    if node.head != "relation" or node.name != ":":
        return None
    hour, minute = node.args
    if minute.head == "quantity" and unit_of(minute.name).name in ("am", "pm"):
        half, minute = unit_of(minute.name).name, minute.args[0]
    if hour.value is None or minute.value is None or len(minute.name) != 2 or minute.value >= 60 or hour.value > 24:
        return None
    return hour.value * 60 + minute.value, half


def _ratio(gold: Node, answer: Node) -> bool | None:
    first, second = _clock(gold), _clock(answer)
    if first and second and (first[1] or second[1] or first[0] == second[0]):
        return first[0] == second[0] and (first[1] == second[1] or "" in (first[1], second[1]))
    if (first and first[1]) or (second and second[1]):
        return False
    wanted, given = _terms(gold), _terms(answer)
    if wanted is None or given is None:
        if gold.head == "relation" and answer.head == "relation" and answer.name.startswith("="):
            return _equal(gold, answer.args[-1])
        if answer.head == "relation" and answer.name.split() == ["=", ":"]:
            return _equal(gold, Node("relation", answer.args[1:], ":"))
        return False
    if len(wanted) != len(given):
        return False
    return all(
        same_value(Node("*", (wanted[0], a)), Node("*", (given[0], g))) is True
        for g, a in zip(wanted[1:], given[1:], strict=True)
    )


def _terms(node: Node) -> list[Node] | None:
    """Return the terms of a ratio; of a number, it and 1."""
    if node.head == "relation" and set(node.name.split()) == {":"}:
        return list(node.args) if all(is_value(arg) for arg in node.args) else None
    if node.head == "relation" and node.name.split() == ["=", ":"]:
        return list(node.args[1:])
    return [node, number(1)] if is_value(node) else None


# -- several values ---------------------------------------------------------------------------------------------------


def _members(node: Node) -> list[Node]:
    return list(node.args) if node.head in ("list", "set") else [node]


def _several(gold: Node, answer: Node) -> bool | None:
    """Compare lists, sets and systems; the order of their members has no meaning, their number has."""
    if any(node.head == "symbol" and node.name == "emptyset" for node in (gold, answer)):
        return False
    if answer.head == "list" and len({arg.name for arg in answer.args}) > 1:
        together = _measured(Node("compound", answer.args)) if all(a.head == "quantity" for a in answer.args) else None
        if together and _measured(gold):  # 1 hour and 30 minutes
            return _quantity(gold, Node("compound", answer.args))
    wanted, given = _values(gold), _values(answer)
    if gold.head == "list" and answer.head == "()" and len({g.key for g in wanted}) == 1:
        given = list(answer.args)  # 3,3 as (3,3)
    if gold.head == "()" and answer.head == "list" and _counted(answer.args) == len(gold.args):
        wanted = list(gold.args)
        return _all(_equal(g, a) for g, a in zip(wanted, given, strict=True)) if len(given) == len(wanted) else False
    tuples = _as_tuples(wanted, given)
    if tuples is not None:
        wanted, given = tuples
    if gold.head not in ("list", "set") and len(given) > 1:
        return _in_several_forms(gold, answer)
    if len(wanted) != len(given) or len(wanted) > MAX_ITEMS:
        return False
    return _matched(wanted, given)


def _in_several_forms(gold: Node, answer: Node) -> bool:
    """Tell whether a list has one value in up to four different forms: 1/2 or 50 %."""
    forms = answer.args
    if answer.head != "list" or len(forms) > 4 or len({form.key for form in forms}) < len(forms):
        return False
    if not (is_value(gold) or gold.head == "quantity") or any(form.head == "text" for form in forms):
        return False
    return all(_equal(gold, form) for form in forms)


def _assigned(nodes: Sequence[Node]) -> list[tuple[Node, Node]] | None:
    """Return the names and values of x = 1, y = 2; None if an item names nothing."""
    found = []
    for node in nodes:
        if node.head == "relation" and node.name == ":":
            pair = (node.args[0], node.args[1]) if _is_label(node.args[0]) else None
        else:
            pair = _named(node) if node.head == "relation" else None
        if pair is None:
            return None
        found.append(pair)
    return found


def _counted(nodes: Sequence[Node]) -> int:
    """Return how many values x_1 = 1, x_2 = 2 … name in their order; 0 if it is another list."""
    pairs = _assigned(nodes) or []
    names = [re.fullmatch(r"\w+_(\d+)", label.name) for label, _ in pairs]
    return len(pairs) if [name and name[1] for name in names] == [str(i + 1) for i in range(len(pairs))] else 0


def _stem(label: Node) -> str:
    return re.sub(r"_(?:\{?\d+\}?|[\d,]+)$", "", label.name) if label.head == "symbol" else label.key


def _values(node: Node) -> list[Node]:
    """Return a list's members: the values where all are of one unknown (x_1 = 1, x_2 = 3), tuples where several."""
    members = _members(node)
    pairs = _assigned(members)
    if pairs is None:
        if node.name == ";" or (members and all(member.head == "list" for member in members)):
            groups = [_assigned(member.args) if member.head == "list" else None for member in members]
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


def _as_tuples(wanted: list[Node], given: list[Node]) -> tuple[list[Node], list[Node]] | None:
    """Bring a system, x = 1 and y = 2, to what the other side is: a tuple, values, or the same system in an order."""
    first, second = _assigned(wanted), _assigned(given)
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
        if len(other) == 1 and other[0].head == "()" and len(values) > 1:
            pair = [Node("()", tuple(values))], other
        elif len(other) == len(values):
            ordered = not swap and len({label.key for label, _ in system}) == len(system)
            pair = ([Node("()", tuple(values))], [Node("()", tuple(other))]) if ordered else (values, other)
        else:
            continue
        return (pair[1], pair[0]) if swap else pair
    return None


def _matched(wanted: list[Node], given: list[Node]) -> bool | None:
    """Tell whether each of the one has an equal of its own among the other."""
    left = list(given)
    unknown = False
    for item in wanted:
        for index, other in enumerate(left):
            verdict = _equal(item, other)
            if verdict:
                del left[index]
                break
            unknown = unknown or verdict is None
        else:
            return None if unknown else False
    return True


def _tuple(gold: Node, answer: Node) -> bool | None:
    if _vector(gold) and answer.head == "()":
        gold = _vector(gold) or gold
    if _vector(answer) and gold.head == "()":
        answer = _vector(answer) or answer
    if {gold.head, answer.head} - {"()", "<>", "[]"} or gold.head != answer.head or len(gold.args) != len(answer.args):
        return False
    return _all(_equal(g, a) for g, a in zip(gold.args, answer.args, strict=True))


def _all(verdicts: object) -> bool | None:
    unknown = False
    for verdict in verdicts:  # type: ignore[attr-defined]
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


def _matrix(gold: Node, answer: Node) -> bool | None:
    first, second = _entries(gold), _entries(answer)
    if first is None or second is None:
        return None
    if [len(row) for row in first] != [len(row) for row in second]:
        vector = {"()"} & {gold.head, answer.head}
        flat = [e for row in first for e in row], [e for row in second for e in row]
        if not vector or not (min(len(first), len(first[0])) == min(len(second), len(second[0])) == 1):
            return False
        if len(flat[0]) != len(flat[1]):
            return False
        return _all(_equal(g, a) for g, a in zip(*flat, strict=True))
    return _all(_equal(g, a) for r, s in zip(first, second, strict=True) for g, a in zip(r, s, strict=True))


def _entries(node: Node) -> list[list[Node]] | None:
    """Return a matrix's rows; of a tuple, a column."""
    if node.head == "matrix":
        return [list(row.args) for row in node.args]
    if node.head == "()":
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
