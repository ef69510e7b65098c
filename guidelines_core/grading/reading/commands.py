r"""What LaTeX commands stand for: fractions, roots, functions, operators."""

from __future__ import annotations

from guidelines_core.grading.reading import brackets, expressions, postfixes
from guidelines_core.grading.reading.built import product
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, number, symbol
from guidelines_core.grading.reading.spellings import FUNCTIONS
from guidelines_core.grading.reading.tokens import NotRead
from guidelines_core.grading.reading.vocabulary import (
    ACCENTS,
    BINOMIALS,
    DOTS,
    ENDS,
    FRACTIONS,
    OPERATORS,
    PREFIXES,
    SYMBOLS,
)

_ACCENTS_ALIKE = {
    "overrightarrow": "vec", "bar": "overline", "widehat": "hat", "widetilde": "tilde", "wideparen": "overarc",
}  # fmt: skip


def command_value(c: Cursor, name: str) -> Node:
    """Read what a LaTeX command stands for, with its arguments."""
    if name in FRACTIONS:
        top = expressions.command_argument(c)
        return Node("/", (top, expressions.command_argument(c)))
    if name in BINOMIALS:
        return Node("apply", (expressions.command_argument(c), expressions.command_argument(c)), "binom")
    if name == "sqrt":
        return root_of(c)
    if name in ("abs", "floor", "ceil"):
        if c.peek().kind != "(":
            raise NotRead
        return Node("apply", (expressions.atom(c),), name)
    if name in FUNCTIONS or name in ("lg", "arccot", "sech", "csch", "arsinh", "operatorname"):
        return function_value(c, name)
    if name in ACCENTS:
        start = c.at
        inner = expressions.command_argument(c)
        name = _ACCENTS_ALIKE.get(name, name)
        letters = "".join(token.text for token in c.tokens[start : c.at] if token.kind not in "{}")
        if name in ("vec", "hat") and letters in ("i", "j", "k", "imath", "jmath"):
            return symbol("vector " + letters[0])
        return symbol(f"{name} {letters}") if letters.isalpha() else Node("opaque", (inner,), name)
    if name in OPERATORS:
        return operator(c, name)
    if name in PREFIXES:
        return Node("opaque", (expressions.product_of_factors(c),), name)
    if name in DOTS:
        return symbol("...")
    if name in ENDS:
        return brackets.delimited(c, name)
    if name == "vert":
        return brackets.bars_by_command(c)
    if name in SYMBOLS:
        name = {"varnothing": "emptyset", "imath": "vector i", "jmath": "vector j"}.get(name, name)
        return symbol(name)
    raise NotRead


def root_of(c: Cursor) -> Node:
    """Read a root, with its degree."""
    degree = number(2)
    if c.peek().kind == "[":
        start, close = c.at + 1, c.pairs[c.at]
        c.at = close + 1
        degree = expressions.read_inside(c, start, close)
    if c.peek().kind == "number" and c.tokens[c.at - 2].text not in FRACTIONS:  # \sqrt13, as in plain text
        inner = number(c.take().text)
    else:
        inner = expressions.atom(c) if c.peek().kind == "(" else expressions.command_argument(c)
    return Node("^", (inner, Node("/", (number(1), degree))), "root")


def function_value(c: Cursor, name: str) -> Node:
    r"""Read a function of a value: \sin^2 x, \log_2 8."""
    base: Node | None = None
    power: Node | None = None
    for _ in range(2):
        if c.peek().kind == "_" and name == "log":
            c.take()
            base = expressions.command_argument(c)
        elif c.peek().kind == "^" and power is None:
            c.take()
            power = postfixes.exponent(c)
    inverse = power is not None and power.value == -1
    if inverse and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
        name, power = "arc" + name, None
    if c.peek().kind == "(":
        argument = postfixes.postfixes(c, expressions.atom(c))
        if c.tokens[c.at - 1].kind not in (")",) and argument.head in ("^",) and power is None and name != "ln":
            pass
    else:
        argument = function_argument(c)
    if name == "log" and base is None:
        name = "log10"
    if name == "lg":
        name = "log10"
    if name == "exp":
        return Node("^", (symbol("e"), argument))
    args = (argument, base) if base is not None else (argument,)
    value = Node("apply", args, name)
    return Node("^", (value, power)) if power is not None else value


def function_argument(c: Cursor) -> Node:
    """Read what stands behind a function without brackets: a product, up to the next function."""
    factors = [expressions.factor(c)]
    while c.at < c.end and expressions.starts_a_factor(c, factors[-1]):
        token = c.peek()
        if token.kind == "(" or (
            token.kind == "command" and (token.text in FUNCTIONS - {"sqrt"} or token.text in OPERATORS)
        ):
            break
        factors.append(expressions.factor(c))
    return product(factors)


def operator(c: Cursor, name: str) -> Node:
    """Read a sum, an integral, a limit and the like, whose value is not computed but for gcd and lcm."""
    parts: list[Node] = []
    for _ in range(2):
        if c.peek().kind in ("_", "^"):
            kind = c.take().kind
            if c.peek().kind == "{":
                close = c.pairs[c.at]
                start = c.at + 1
                c.at = close + 1
                parts.append(Node("row", (expressions.read_inside(c, start, close),), kind))
            else:
                parts.append(Node("row", (expressions.command_argument(c),), kind))
    if name in ("gcd", "lcm", "max", "min") and c.peek().kind in ("(", r"\{") and not parts:
        inner = expressions.atom(c)
        if name in ("gcd", "lcm") and inner.head in ("()", "set"):
            return Node("apply", inner.args, name)
        return Node("opaque", inner.args or (inner,), name)
    if c.at < c.end and c.peek().kind not in (")", "]"):
        parts.append(expressions.product_of_factors(c))
    return Node("opaque", tuple(parts), name)


def before_index(c: Cursor) -> Node:
    """Read ^8C_2."""
    top = expressions.command_argument(c)
    if c.peek().text != "C" or c.peek(1).kind != "_":
        raise NotRead
    c.at += 2
    return Node("apply", (top, expressions.command_argument(c)), "binom")
