r"""What stands in brackets: tuples, intervals, sets, absolute values, matrices."""

from __future__ import annotations

from guidelines_core.grading.reading import expressions, postfixes
from guidelines_core.grading.reading.built import is_plain
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, symbol
from guidelines_core.grading.reading.tokens import NotRead
from guidelines_core.grading.reading.vocabulary import RELATIONS


def number_field(c: Cursor, name: str) -> Node:
    """Read the name of a number set: R, R^+, Z_{>0}."""
    sign = ""
    if c.peek().kind in ("^", "_"):
        c.take()
        if c.peek().kind == "{":
            close = c.pairs[c.at]
            sign = c.spelled(c.at + 1, close)
            c.at = close + 1
        else:
            sign = c.take().text
        if c.peek().kind in ("^", "_"):
            raise NotRead
    sign = sign.replace(" ", "")
    sign = {"geq0": ">=0", "ge0": ">=0", "geqslant0": ">=0", ">0": "+", "gt0": "+", "≥0": ">=0"}.get(sign, sign)
    return symbol("field " + name + sign)


def bracket(c: Cursor, opening: str) -> Node:
    """Read what stands between two brackets of any kind."""
    start, close = c.at, c.pairs[c.at - 1]
    closing = c.tokens[close].kind
    c.at = close + 1
    if start == close:
        if opening == r"\{":
            return symbol("emptyset")
        if opening == "{":
            return symbol("") if c.peek().kind in ("_", "^") else postfixes.postfixes(c, expressions.atom(c))
        raise NotRead
    if opening == r"\{":
        return braces(c, start, close)
    if opening == "{":
        inside = c.outside(start, close)
        middle = [i for i in inside if c.tokens[i].kind == "command" and c.tokens[i].text in ("choose", "over")]
        if middle:
            over = expressions.read_inside(c, start, middle[0]), expressions.read_inside(c, middle[0] + 1, close)
            return Node("/", over) if c.tokens[middle[0]].text == "over" else Node("apply", over, "binom")
        return expressions.read_inside(c, start, close)
    inner = expressions.read_inside(c, start, close)
    several = inner.head == "list"
    if opening == "(" and closing == ")":
        if several and inner.name in (",", ";"):
            return Node("()", inner.args)
        if several:
            raise NotRead
        return inner
    if several and len(inner.args) == 2:
        shape = ("(" if opening == "]" or opening == "(" else "[") + (")" if closing in ("[", ")") else "]")
        return Node(shape if shape != "()" else "interval()", inner.args)
    if opening == "[" and closing == "]":
        return Node("[]", inner.args) if several else inner if is_plain(inner) else Node("opaque", (inner,), "[]")
    raise NotRead


def braces(c: Cursor, start: int, close: int) -> Node:
    """Read a set, or a set-builder: {x | x > 1}."""
    outside = c.outside(start, close)
    for index in outside:
        token = c.tokens[index]
        bar = token.kind in ("|", ":") or (token.kind == "command" and token.text in ("mid", "vert", "colon", "middle"))
        if token.kind == "word" and token.text == "such":
            bar = True
        if bar and any(
            (c.tokens[i].text in RELATIONS and c.tokens[i].text != ":") or c.tokens[i].kind == "word"
            for i in outside
            if i > index
        ):
            if token.kind == "|" and sum(c.tokens[i].kind == "|" for i in outside) % 2 == 0:
                continue
            return Node(
                "builder", (expressions.read_inside(c, start, index), expressions.read_inside(c, index + 1, close))
            )
    inner = expressions.read_inside(c, start, close)
    if inner.head == "relation" and inner.name not in ("->",):
        return Node("builder", (symbol(""), inner))
    return Node("set", inner.args if inner.head == "list" else (inner,))


def bars(c: Cursor, kind: str) -> Node:
    """Read an absolute value, |x|, or a norm."""
    name = "abs" if kind == "|" else "norm"
    c.in_bars += 1
    inner = expressions.sum_of_terms(c)
    c.in_bars -= 1
    if c.take().kind != kind:
        raise NotRead
    return Node("apply", (inner,), name) if name == "abs" else Node("opaque", (inner,), name)


def bars_by_command(c: Cursor) -> Node:
    r"""Read \vert x \vert."""
    inner = expressions.sum_of_terms(c)
    if not c.is_command("vert"):
        raise NotRead
    c.take()
    return Node("apply", (inner,), "abs")


def environment(c: Cursor, name: str) -> Node:
    """Read a matrix or cases; the rows of plain cases are a system."""
    start, close = c.at, c.pairs[c.at - 1]
    c.at = close + 1
    rows: list[Node] = []
    begin = start
    for end in [*(i for i in c.outside(start, close) if c.tokens[i].kind == "row"), close]:
        if begin < end:
            rows.append(matrix_row(c, begin, end))
        begin = end + 1
    if not rows:
        raise NotRead
    if name == "cases":
        if all(len(row.args) == 1 for row in rows):
            return Node("list", tuple(row.args[0] for row in rows), "and") if len(rows) > 1 else rows[0].args[0]
        return Node("cases", tuple(rows))
    if len({len(row.args) for row in rows}) != 1:
        raise NotRead
    if name in ("vmatrix", "Vmatrix"):
        return (
            Node("apply", (Node("matrix", tuple(rows)),), "det")
            if name == "vmatrix"
            else Node("opaque", tuple(rows), "norm")
        )
    if name.rstrip("*") not in ("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "psmallmatrix"):
        raise NotRead
    return Node("matrix", tuple(rows))


def matrix_row(c: Cursor, start: int, end: int) -> Node:
    """Read a matrix's row."""
    cells: list[Node] = []
    begin = start
    for index in [*(i for i in c.outside(start, end) if c.tokens[i].kind == "&"), end]:
        if begin < index:
            cells.append(expressions.read_inside(c, begin, index))
        begin = index + 1
    return Node("row", tuple(cells))


def delimited(c: Cursor, name: str) -> Node:
    r"""Read what stands between \lfloor and \rfloor, \langle and \rangle and the like."""
    start, close = c.at, c.pairs[c.at - 1]
    c.at = close + 1
    if start == close:
        if name == "lbrace":
            return symbol("emptyset")
        raise NotRead
    if name == "lbrace":
        return braces(c, start, close)
    inner = expressions.read_inside(c, start, close)
    if name == "langle":
        return Node("()", inner.args) if inner.head == "list" else Node("opaque", (inner,), "<>")
    if name == "lbrack":
        return Node("[]", inner.args) if inner.head == "list" else inner
    if inner.head == "list":
        raise NotRead
    if name == "lVert":
        return Node("opaque", (inner,), "norm")
    return Node("apply", (inner,), {"lfloor": "floor", "lceil": "ceil", "lvert": "abs"}[name])
