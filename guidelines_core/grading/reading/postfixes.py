r"""What stands behind a value: powers, indices, degrees, factorials, primes, arguments."""

from __future__ import annotations

from guidelines_core.grading.reading import expressions, parser
from guidelines_core.grading.reading.built import based, negative
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, number, symbol
from guidelines_core.grading.reading.tokens import NotRead
from guidelines_core.grading.reading.vocabulary import APPLIED, BASES, RELATIONS


def postfixes(c: Cursor, node: Node) -> Node:
    """Read what stands behind a value: powers, indices, degrees, factorials, primes."""
    while c.at < c.end:
        token = c.peek()
        if token.kind == "^":
            if c.peek(1).kind == "command" and c.peek(1).text in ("circ", "degree"):
                c.at += 2
                node = Node("apply", (node,), "deg")
                continue
            c.take()
            node = raised(c, node)
        elif token.kind == "command" and token.text in ("degree", "circ", "degrees"):
            c.take()
            node = Node("apply", (node,), "deg")
        elif token.kind == "_":
            c.take()
            node = indexed(c, node)
        elif token.kind == "!":
            c.take()
            node = Node("apply", (node,), "!!" if c.peek().kind == "!" else "!")
            if c.peek().kind == "!":
                c.take()
        elif token.kind == "'":
            c.take()
            node = primed(c, node)
        else:
            return applied(c, node)
    return node


def primed(c: Cursor, node: Node) -> Node:
    """Return a symbol with a prime."""
    if node.head == "apply" and node.name == "deg":  # minutes of arc
        raise NotRead
    if node.head == "number":
        raise NotRead
    return symbol(node.name + "'") if node.head == "symbol" else Node("opaque", (node,), "'")


def raised(c: Cursor, node: Node) -> Node:
    """Read an exponent, or what is written like one: degrees, an ordinal, a star."""
    start = c.at
    if c.peek().kind == "{":
        inside = c.tokens[c.at + 1 : c.pairs[c.at]]
        words = [t.text for t in inside]
        if words in (["circ"], ["o"], ["degree"]) or (inside and inside[0].text == "circ"):
            c.at = c.pairs[c.at] + 1
            unit = "".join(words[1:])
            return Node("quantity", (node,), "°" + unit) if unit else Node("apply", (node,), "deg")
        if words in (["th"], ["st"], ["nd"], ["rd"]) and node.head in ("number", "symbol"):
            c.at = c.pairs[c.at] + 1
            return node
        if words and all(t.kind == "command" and t.text == "prime" for t in inside):
            c.at = c.pairs[c.at] + 1
            for _ in words:
                node = primed(c, node)
            return node
    if c.is_command("prime"):
        c.take()
        return primed(c, node)
    if c.peek().text in ("o", "O") and node.head == "number" and c.at + 1 == c.end:
        c.take()
        return Node("apply", (node,), "deg")
    if c.peek().kind in ("+", "*") or c.is_command("ast", "star", "dagger"):
        return Node("opaque", (node, symbol(c.take().text)), "^")
    if c.peek().kind == "{" and c.pairs[c.at] == c.at + 2 and c.peek(1).kind in ("+", "-", "*"):
        c.at = c.pairs[c.at] + 1
        return Node("opaque", (node, symbol(c.tokens[start + 1].kind)), "^")
    return Node("^", (node, exponent(c)))


def exponent(c: Cursor) -> Node:
    """Read an exponent; more than one digit may stand without braces."""
    if c.peek().kind == "-":
        c.take()
        return negative(exponent(c))
    if c.peek().kind == "number":  # x^12, as in plain text
        return number(c.take().text)
    if c.peek().kind == "(":
        return expressions.atom(c)
    return expressions.command_argument(c)


def indexed(c: Cursor, node: Node) -> Node:
    """Read an index: of a number its base, of C the binomial coefficient."""
    if node.head == "number":
        return in_base(c, node)
    whole = c.peek().kind == "number" and c.peek().spaced
    index = number(c.take().text) if whole else subscript(c)
    if node.head == "symbol" and node.name == "C" and c.peek().kind == "^":
        c.take()
        other = expressions.command_argument(c)
        if index.value is not None and other.value is not None and index.value < other.value:
            index, other = other, index
        return Node("apply", (index, other), "binom")
    if node.head == "symbol" and index.head in ("number", "symbol"):
        return symbol(f"{node.name}_{index.name if index.head == 'symbol' else index.value}")
    return Node("opaque", (node, index), "_")


def subscript(c: Cursor) -> Node:
    """Read an index that may be words or a relation."""
    if c.peek().kind == "{":
        close = c.pairs[c.at]
        start = c.at + 1
        c.at = close + 1
        kinds = {token.kind for token in c.tokens[start:close]}
        if start == close:
            raise NotRead
        if kinds & {"word", ",", "run"} or any(
            t.text in RELATIONS or (t.text in ("+", "-") and start + 1 == close) for t in c.tokens[start:close]
        ):
            return symbol(c.spelled(start, close))
        return expressions.read_inside(c, start, close)
    return expressions.command_argument(c)


def in_base(c: Cursor, node: Node) -> Node:
    r"""Read the base of a number: 101_2, 101_{\text{two}}."""
    if c.peek().kind == "{":
        start, close = c.at + 1, c.pairs[c.at]
        c.at = close + 1
        text = c.spelled(start, close).strip("()").removeprefix("base ").strip()
    else:
        text = c.take().text
    base = BASES.get(text) or (int(text) if text.isdigit() else 0)
    digits = node.name or str(node.value)
    if not (2 <= base <= 36 and digits.replace(".", "", 1).isalnum() and digits[0].isdigit()):
        raise NotRead
    return based(digits, base)


def applied(c: Cursor, node: Node) -> Node:
    """Read f(x) as a function's value."""
    in_brackets = node.head in ("+", "*", "/") and c.peek().kind == "(" and c.tokens[c.at - 1].kind == ")"
    if in_brackets and all(p.head != "number" and (p.head != "symbol" or p.name in APPLIED) for p in node.walk()):
        node = Node("opaque", (node,), "function")  # (f+g)(x)
    if c.peek().kind != "(" or node.head not in ("symbol", "opaque"):
        return node
    close = c.pairs[c.at]
    if c.tokens[close].kind != ")":
        raise NotRead
    inside = c.outside(c.at + 1, close)
    listed = any(c.tokens[index].kind in (",", ";") for index in inside)
    names_value = c.tokens[close + 1].kind == "=" if close + 1 < len(c.tokens) else False
    letter = node.name[:1] if node.head == "symbol" else ""
    stated = any(c.tokens[i].kind in ("=", "word") or c.tokens[i].text in RELATIONS for i in inside)
    primed = node.name.endswith("'") or node.head == "opaque"
    if not (
        letter in APPLIED
        or listed
        or names_value
        or stated
        or node.name in ("varphi", "phi", "psi", "Re", "Im")
        or primed
    ):
        return node
    start = c.at + 1
    c.at = close + 1
    if node.name == "C" and listed:
        inner = expressions.read_inside(c, start, close)
        if inner.head == "list" and len(inner.args) == 2:
            top, bottom = (arg.value for arg in inner.args)
            if top is not None and bottom is not None and top < bottom:
                return Node("point", (Node("()", inner.args),), node.name)
            return Node("apply", inner.args, "binom")
    try:
        inner = parser.items(c, start, close)
    except NotRead:
        inner = symbol(c.spelled(start, close))
    if listed and node.name.isupper() and len(node.name) == 1 and letter not in APPLIED and not names_value:
        return Node("point", (Node("()", inner.args),), node.name)  # A(1,2)
    return postfixes(c, Node("opaque", (node, *(inner.args if inner.head == "list" else (inner,))), "of"))
