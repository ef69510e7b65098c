r"""Numbers: decimals, recurring decimals, mixed numbers."""

from __future__ import annotations

import re
from fractions import Fraction

from guidelines_core.grading.reading import expressions, postfixes
from guidelines_core.grading.reading.built import period, recurring
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, number
from guidelines_core.grading.reading.tokens import NotRead, Token
from guidelines_core.grading.reading.vocabulary import DOTS, FRACTIONS


def numeral(c: Cursor, token: Token) -> Node:
    """Read a number, a recurring one or a mixed one."""
    if c.peek().kind == "." and c.peek(1).kind == "(" and c.peek(2).kind == "number" and c.peek(3).kind == ")":
        digits = c.peek(2).text
        c.at += 4
        return recurring(token.text, digits)
    if "." in token.text and c.peek().kind == "(" and c.peek(1).kind == "number" and c.peek(2).kind == ")":
        digits = c.peek(1).text
        c.at += 3
        return recurring(token.text, digits)
    dot = c.peek().kind == "."
    if ("." in token.text or dot) and c.peek(dot).kind == "command" and c.peek(dot).text in ("overline", "dot", "bar"):
        c.at += 1 + dot
        repeated = expressions.command_argument(c)
        if c.peek().kind == "number" and c.peek(1).text == "dot":
            repeated = number((repeated.name or str(repeated.value)) + c.take().text)
        if c.is_command("dot"):
            c.take()
            last = expressions.command_argument(c)
            repeated = number((repeated.name or str(repeated.value)) + (last.name or str(last.value)))
        if repeated.head != "number" or not (repeated.name or str(repeated.value)).isdigit():
            raise NotRead
        return recurring(token.text, repeated.name or str(repeated.value))
    if dot and c.at + 1 == c.end:
        c.take()
    if "." in token.text and starts_dots(c) and (value := period(token.text)):
        c.at += 1 if c.peek().kind == "command" else 3
        return value
    if (in_base := digits_with_letters(c, token)) is not None:
        return in_base
    whole = number(token.text)
    if token.text.isdigit():
        start = c.at
        if c.peek().kind == "command" and c.peek().text in FRACTIONS:
            part = expressions.atom(c)
            if part.head == "/" and part.args[0].head == part.args[1].head == "number":
                return Node("+", (whole, part), "mixed")
            c.at = start
        elif c.peek().kind == "number" and c.peek().spaced and c.peek(1).kind == "/" and c.peek(2).kind == "number":
            c.at += 3
            top, bottom = c.tokens[start].text, c.tokens[start + 2].text
            return Node("+", (whole, Node("/", (number(top), number(bottom)))), "mixed")
    return whole


def digits_with_letters(c: Cursor, first: Token) -> Node | None:
    """Read digits above 9 and their base, 3A7_{12}; None if that is not what stands there."""
    digits, offset = first.text, 0
    while c.peek(offset).kind in ("letter", "upright", "run", "number") and not c.peek(offset).spaced:
        digits += c.peek(offset).text
        offset += 1
    base = c.peek(offset + 2).text if c.peek(offset + 1).kind == "{" else c.peek(offset + 1).text
    if c.peek(offset).kind != "_" or digits.isdigit() or not re.fullmatch("[0-9A-Fa-f]+", digits):
        return None
    if not (base.isdigit() and int(base) > 10):
        return None
    c.at += offset + 1
    return postfixes.indexed(c, Node("number", name=digits.upper(), value=Fraction(0)))


def starts_dots(c: Cursor) -> bool:
    """Tell whether dots follow."""
    kinds = [c.peek(offset).kind for offset in range(3)]
    return c.is_command(*DOTS) or kinds == [".", ".", "."]
