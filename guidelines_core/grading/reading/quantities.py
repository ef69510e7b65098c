r"""Values with a unit, and sets put together."""

from __future__ import annotations

import re

from guidelines_core.grading.reading import expressions
from guidelines_core.grading.reading.built import based, negative
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, number
from guidelines_core.grading.reading.tokens import NotRead
from guidelines_core.grading.reading.vocabulary import BASES, ORDINALS
from guidelines_core.grading.units import is_unit_phrase, is_unit_word


def quantity(c: Cursor) -> Node:
    """Read a value with the unit that may follow it, or several: 1 h 30 min."""
    found = [measured(c)]
    while c.at < c.end and found[-1].head == "quantity" and c.peek().kind == "number":
        found.append(measured(c))
    if len(found) > 1:
        if any(part.head != "quantity" or not is_unit_word(part.name) for part in found):
            raise NotRead
        return Node("compound", tuple(found))
    return found[0]


def measured(c: Cursor) -> Node:
    """Read a value with its unit or currency."""
    money = ""
    sign = False
    if c.peek().kind == "-" and c.peek(1).kind == "money":
        c.take()
        sign = True
    if (
        c.peek().kind in ("run", "word")
        and c.peek().text in ("US", "USD", "EUR", "GBP", "Rs", "INR")
        and c.peek(1).kind in ("money", "number", ".")
    ):
        money = {"US": "$", "Rs": "₹"}.get(c.take().text, c.tokens[c.at - 1].text)
        if c.peek().kind == ".":
            c.take()
    if c.peek().kind == "money":
        money = c.take().text
    value = set_operation(c)
    if sign:
        value = negative(value)
    if value.head == "number" and value.name.isdigit() and (base := stated_base(c)):
        return based(value.name, base)
    if value.name == "deg" and c.peek().kind == "number" and c.peek(1).kind == "'":
        return minutes_of_arc(c, value)
    unit = unit_phrase(c)
    if unit in ("°C", "°F", "C", "F") and any(part.name == "deg" for part in value.walk()):
        value = value.rebuild(lambda part: part.args[0] if part.name == "deg" else None)
    if money:
        unit = " ".join(filter(None, [unit, money]))
    return Node("quantity", (value,), unit) if unit else value


def minutes_of_arc(c: Cursor, degrees: Node) -> Node:
    """Read 60°30'15\" as degrees."""
    terms, size = [degrees.args[0]], 60
    while c.peek().kind == "number" and c.peek(1).kind == "'" and size <= 3600:
        terms.append(Node("/", (number(c.take().text), number(size))))
        while c.peek().kind == "'":
            c.take()
        size *= 60
    return Node("apply", (Node("+", tuple(terms)),), "deg")


def stated_base(c: Cursor) -> int:
    """Read "(base 2)" behind a number; 0 if it is not there."""
    tokens = [token for token in c.tokens[c.at : c.end] if token.kind not in ("(", ")", "{", "}")]
    tokens = tokens[1:] if tokens and tokens[0].text == "in" else tokens
    if len(tokens) != 2 or tokens[0].text != "base":
        return 0
    c.at = c.end
    return BASES.get(tokens[1].text) or (int(tokens[1].text) if tokens[1].text.isdigit() else 0)


def unit_phrase(c: Cursor) -> str:
    """Read the words of a unit, if any; an ordinal's ending is dropped."""
    begin = c.at
    parts: list[str] = []
    while c.at < c.end:
        token = c.peek()
        if token.text in ("C", "F") and c.tokens[c.at - 1].text in ("circ", "}") and not parts:
            parts.append("°" + token.text)
        elif token.kind in ("word", "run", "upright", "money", "%") or (
            token.kind == "letter" and (parts or token.spaced)
        ):
            parts.append(token.text)
        elif token.kind in ("/", "^", "-") and (parts or token.kind == "/"):
            parts.append(token.kind)
        elif token.kind == "number" and parts and parts[-1] in ("^", "-"):
            parts.append(token.text)
        elif (
            token.kind == "number"
            and parts
            and re.fullmatch("[23]", token.text)
            and not token.spaced
            and is_unit_word(parts[-1])
        ):
            parts += ["^", token.text]
        elif token.kind in ("{", "}", "(", ")") or (token.kind == "." and parts):
            pass
        elif token.kind == "command" and token.text in ("cdot", "times") and parts:
            parts.append("*")
        elif token.kind == "^" or (token.kind == "command" and token.text in ("circ", "degree")):
            parts.append("°")
        else:
            break
        c.at += 1
    if parts and parts[0] in ORDINALS:
        parts = parts[1:]
        if not parts:
            return ""
    phrase = " ".join(parts)
    if not parts:
        if c.at != begin:
            raise NotRead
        return ""
    if not is_unit_phrase(phrase):
        raise NotRead
    return phrase


def set_operation(c: Cursor) -> Node:
    """Read sets with union, intersection or difference between them, or one value."""
    left = expressions.sum_of_terms(c)
    while c.is_command("cup", "cap", "setminus", "backslash", "smallsetminus", "bigcup") or (
        left.head == "set" and c.peek().kind == "\\"
    ):
        name = {"cup": "union", "bigcup": "union", "cap": "intersection"}.get(c.take().text, "minus")
        right = expressions.sum_of_terms(c)
        left = Node(name, (*left.args, right)) if left.head == name != "minus" else Node(name, (left, right))
    if (left.head in ("set", "builder") or left.name.startswith("field")) and c.peek().kind == "-":
        c.take()
        return Node("minus", (left, expressions.sum_of_terms(c)))
    return left
