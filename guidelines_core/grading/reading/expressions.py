r"""Sums, products, factors and what they are made of: the parser of expressions."""

from __future__ import annotations

import re

from guidelines_core.grading.reading import brackets, commands, numerals, parser, postfixes
from guidelines_core.grading.reading.built import negative, product
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, number, symbol
from guidelines_core.grading.reading.spellings import FUNCTIONS
from guidelines_core.grading.reading.tokens import NotRead, Token
from guidelines_core.grading.reading.vocabulary import (
    ACCENTS,
    BINOMIALS,
    DOTS,
    FRACTIONS,
    MAX_DEPTH,
    OPERATORS,
    ORDINALS,
    SYMBOLS,
)
from guidelines_core.grading.units import is_unit_phrase, is_unit_word


def sum_of_terms(c: Cursor) -> Node:
    """Read terms with plus, minus or both before them."""
    c.depth += 1
    if c.depth > MAX_DEPTH:
        raise NotRead
    terms: list[Node] = []
    while True:
        sign = ""
        while c.peek().kind in ("+", "-") or c.is_command("pm", "mp"):
            token = c.take()
            one = {"+": "", "-": "-"}.get(token.kind, token.text)
            if sign in ("pm", "mp") or (sign and one in ("pm", "mp")):
                raise NotRead
            sign = {"": one, "-": "" if one == "-" else "-"}.get(sign, sign)
        term = product_of_factors(c)
        if sign in ("pm", "mp"):
            term = Node(sign, (term,))
        terms.append(negative(term) if sign == "-" else term)
        if len(terms) == 1 and (terms[0].head in ("set", "builder") or terms[0].name.startswith("field")):
            break
        if not (c.peek().kind in ("+", "-") or c.is_command("pm", "mp")):
            break
    c.depth -= 1
    return terms[0] if len(terms) == 1 else Node("+", tuple(terms))


def product_of_factors(c: Cursor) -> Node:
    """Read factors, with a sign between them or none."""
    factors = [factor(c)]
    while c.at < c.end:
        token = c.peek()
        if token.kind == "*" or c.is_command("cdot", "times", "ast") or (token.text == "x" and is_scientific(c)):
            c.take()
            factors.append(factor(c))
        elif token.kind == "/" and c.peek(1).kind in ("word", "upright", "run"):
            break  # of a unit
        elif token.kind == "/" or c.is_command("div"):
            c.take()
            factors = [Node("/", (product(factors), factor(c)))]
        elif c.is_command("bmod", "mod", "pmod", "pod"):
            c.take()
            modulus = command_argument(c)
            return Node("apply", (product(factors), modulus), "mod")
        elif starts_a_factor(c, factors[-1]):
            factors.append(factor(c))
        else:
            break
    return product(factors)


def is_scientific(c: Cursor) -> bool:
    """Tell whether an x is a times sign, as in 3 x 10^6."""
    before, after = c.tokens[c.at - 1], c.peek(1)
    return before.kind == "number" and after.kind == "number" and (c.peek(2).kind == "^" or c.peek().spaced)


def starts_a_factor(c: Cursor, before: Node) -> bool:
    """Tell whether what follows multiplies the factor before it."""
    token = c.peek()
    previous = c.tokens[c.at - 1]
    if token.kind == "number" and previous.kind == "!":
        return True
    if token.kind == "number":
        return previous.kind not in ("number", ".") and previous.kind in (")", "}") and not token.spaced
    if token.kind == "run":
        return not is_unit_here(c, before)
    if token.kind == "letter":
        if before.name == "deg" and token.text in ("C", "F"):
            return False
        return not (token.spaced and before.head in ("number", "/") and is_unit_here(c, before))
    if token.kind in ("upright", "vector"):
        if token.kind == "upright" and token.text == "C" and c.peek(1).kind in ("_", "^"):
            return True
        return token.kind == "vector"
    if token.kind == "(":
        return not is_unit_bracket(c)
    if token.kind == "|":
        return not c.in_bars
    if token.kind == "{":
        return not (token.spaced and before.head == "number" and c.peek(1).kind == "number")
    if token.kind == "command":
        return (
            token.text in SYMBOLS
            or token.text in FRACTIONS | BINOMIALS | ACCENTS | FUNCTIONS | OPERATORS
            or (token.text in ("lfloor", "lceil", "lvert", "sqrt", "lg", "vert") or token.text in DOTS)
        )
    return token.kind in ("begin", "field")


def is_unit_here(c: Cursor, before: Node) -> bool:
    """Tell whether the letters that follow are a unit: nothing but a unit is left, after a plain number."""
    if any(part.head == "symbol" and part.name not in ("pi", "e") for part in before.walk()):
        return False
    text = c.peek().text
    if re.fullmatch("d[a-z]", text) and text not in ("dm", "dl", "dg"):
        return False  # of an integral
    rest = c.tokens[c.at : c.end]
    if len(text) > 1 and not (c.peek().spaced or is_unit_word(text) or text in ORDINALS):
        return False
    if len(text) == 1 and (c.in_arguments or not is_unit_word(text)):
        return False
    if text.isupper() and len(text) < 4 and not is_unit_word(text):
        return False
    return all(t.kind in ("run", "word", "letter", "upright", "/", "^", "number", "{", "}", "-") for t in rest)


def is_unit_bracket(c: Cursor) -> bool:
    """Tell whether a bracket holds a unit or a base: 5 (cm)."""
    inside = c.tokens[c.at + 1 : c.pairs[c.at]]
    if inside and (inside[0].text == "base" or all(t.kind in ("word", "upright") for t in inside)):
        return True
    return (
        bool(inside)
        and all(t.kind in ("word", "run", "upright") for t in inside)
        and (
            (is_unit_phrase(" ".join(t.text for t in inside)) and inside[0].kind != "upright")
            or len(inside[0].text) > 1
        )
    )


def factor(c: Cursor) -> Node:
    """Read a factor with its sign."""
    if c.peek().kind == "-":
        c.take()
        return negative(factor(c))
    if c.peek().kind == "+":
        c.take()
        return factor(c)
    if c.is_command("pm", "mp"):
        return Node(c.take().text, (factor(c),))
    return postfixes.postfixes(c, atom(c))


def read_inside(c: Cursor, start: int, end: int) -> Node:
    """Read a range as items, and go on where this range's reader stood."""
    kept = c.at, c.end, c.in_bars
    try:
        return parser.items(c, start, end)
    finally:
        c.at, c.end, c.in_bars = kept


def command_argument(c: Cursor) -> Node:
    """Read a command's argument: a group, one command, one letter or one digit."""
    token = c.peek()
    if token.kind == "{":
        close, start = c.pairs[c.at], c.at + 1
        c.at = close + 1
        c.in_arguments += 1
        node = read_inside(c, start, close)
        c.in_arguments -= 1
        return node
    if token.kind in ("number", "run") and len(token.text) > 1 and token.text[0].isalnum():
        rest = token.text[1:]
        kind = "number" if token.kind == "number" else "letter" if len(rest) == 1 else "run"
        if rest.startswith("."):
            raise NotRead
        c.tokens[c.at] = Token(kind, rest, False)
        return number(token.text[0]) if token.kind == "number" else symbol(token.text[0])
    if token.kind == "-":
        c.take()
        return negative(command_argument(c))
    return atom(c)


def atom(c: Cursor) -> Node:
    """Read what no operator is outside of."""
    c.depth += 1
    if c.depth > MAX_DEPTH:
        raise NotRead
    token = c.take()
    if token.kind == "number":
        node = numerals.numeral(c, token)
    elif token.kind in ("letter", "upright"):
        node = symbol(token.text)
    elif token.kind == "run":
        node = product([symbol(letter) for letter in token.text])
        if c.peek().kind in ("^", "_", "!", "'"):  # of the last letter
            node = product(
                [*(symbol(letter) for letter in token.text[:-1]), postfixes.postfixes(c, symbol(token.text[-1]))]
            )
        elif c.peek().kind == "(" and not c.peek().spaced and len(token.text) == 2:
            last = postfixes.applied(c, symbol(token.text[-1]))
            node = product([symbol(token.text[0]), last])
    elif token.kind == "word":
        if c.peek().kind not in ("(", "_", "^"):
            raise NotRead
        node = symbol(token.text)
    elif token.kind == "field":
        node = brackets.number_field(c, token.text)
    elif token.kind == "vector":
        node = symbol("vector " + token.text)
    elif token.kind in ("(", "[", "]", r"\{", "{"):
        node = brackets.bracket(c, token.kind)
    elif token.kind in ("|", "||"):
        node = brackets.bars(c, token.kind)
    elif token.kind == "begin":
        node = brackets.environment(c, token.text)
    elif token.kind == "command":
        node = commands.command_value(c, token.text)
    elif token.kind == "." and c.peek().kind == "." and c.peek(1).kind == ".":
        c.at += 2
        node = symbol("...")
    elif token.kind == "#":
        node = Node("opaque", (factor(c),), "#")
    elif token.kind == "^" and c.peek().kind in ("number", "{"):  # ^8C_2
        node = commands.before_index(c)
    else:
        raise NotRead
    c.depth -= 1
    return node
