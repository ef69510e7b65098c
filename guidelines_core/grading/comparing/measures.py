r"""Values with their units, numbers in a base, and decimals that are about a number."""

from __future__ import annotations

from guidelines_core.grading.comparing.labels import TRIGONOMETRIC
from guidelines_core.grading.comparing.values import rational, real_number, rounds_to, same_value
from guidelines_core.grading.reading.nodes import Node, is_value, number, symbol
from guidelines_core.grading.units import Unit, factors, unit_of


def measured(node: Node) -> tuple[Node, Unit | None] | None:
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
        return part if part.head == "apply" and part.name in TRIGONOMETRIC else None

    return node.rebuild(change)


def same_quantity(gold: Node, answer: Node) -> bool | None:
    """Compare two values with their units; None for what is no value or cannot be computed."""
    wanted, given = measured(gold), measured(answer)
    if wanted is None or given is None:
        return None
    if _has_dots(gold) != _has_dots(answer):
        return False
    scales = [Node("number", value=factor) for factor in factors(wanted[1], given[1])]
    if wanted[1] is None and given[1] and given[1].name == "percent" and _is_below_one(wanted[0]):
        scales = scales[1:]  # 0.25 is 25 %, and 10 may be 10 %
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


def _is_below_one(node: Node) -> bool:
    value = rational(node)
    return value is not None and abs(value) < 1


def has_modulus(node: Node) -> bool:
    """Tell whether a value is said to be of a modulus, as 4 (mod 7) is."""
    return any(part.head == "apply" and part.name == "mod" for part in node.walk())


def _has_dots(node: Node) -> bool:
    return any(part.head == "symbol" and part.name == "..." for part in node.walk())


def same_in_base(gold: Node, answer: Node) -> bool:
    """Compare numbers that name their base; an answer may leave out the one that the gold names."""
    if gold.head == answer.head:
        return gold.args[0].value == answer.args[0].value
    if gold.head == "based":
        return answer.head == "number" and (answer.name or str(answer.value)) == gold.name
    return gold.head == "number" and gold.value == answer.args[0].value


def is_about(exact: Node, decimal: Node) -> bool:
    """Tell whether a decimal is about a number: wrong by no more than one in its last place."""
    first, second = measured(exact), measured(decimal)
    value, given = real_number(first[0]) if first else None, real_number(second[0]) if second else None
    if value is None or given is None:
        return False
    places = max((len(part.name.partition(".")[2]) for part in decimal.walk() if part.head == "number"), default=0)
    return abs(float(value) - float(given)) <= (1.01 if places else 0.5) * 10.0**-places
