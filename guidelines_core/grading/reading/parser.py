r"""From text to nodes: what people write as an answer, read by recursive descent.

A separator outside brackets makes a list, a relation sign a relation; what is left is words, or a value with its unit
(`quantities`). The modules of the parser read parts of one another's parts, and so import one another.
"""

from __future__ import annotations

from functools import lru_cache

from guidelines_core.grading.reading import brackets, relations, remarks
from guidelines_core.grading.reading.built import condition_on
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node
from guidelines_core.grading.reading.tokens import STYLED, NotRead, tokens_of
from guidelines_core.grading.reading.vocabulary import CONDITIONS, MAX_DEPTH, NEEDLESS, RELATIONS
from guidelines_core.grading.units import is_unit_word


@lru_cache(maxsize=4096)
def read(latex: str) -> Node | None:
    """Return what an answer, cleaned, is read as; None if it is nothing known."""
    try:
        tokens = tokens_of(latex)
        return whole_answer(Cursor(tokens)) if tokens else None
    except (NotRead, RecursionError, ZeroDivisionError):
        return None


def whole_answer(c: Cursor) -> Node:
    """Read all of an answer."""
    return items(c, 0, len(c.tokens))


def items(c: Cursor, start: int, end: int) -> Node:
    """Read what commas, semicolons, wide spaces, "and" and "or" separate; one item is no list."""
    c.depth += 1
    if c.depth > MAX_DEPTH:
        raise NotRead
    while start < end and (
        c.tokens[start].kind in ("quad", ",", ";")
        or c.tokens[start].text in ("therefore", "because", "Rightarrow", "implies", "Longrightarrow")
        or needless(c, start)
        or (c.tokens[start].kind == ":" and (start == 0 or needless(c, start - 1)))
    ):
        start += 1
    while end > start and c.tokens[end - 1].kind in ("quad", ",", ";", "row"):
        end -= 1
    end = remarks.without_remark(c, start, end)
    outer = c.pairs.get(start)
    grouped = outer == end - 1 and c.tokens[start].kind == "{" and end - start > 2
    if grouped and not any(c.tokens[i].text in ("over", "choose") for i in c.outside(start + 1, end - 1)):
        c.depth -= 1
        inside = [c.tokens[i] for i in c.outside(start + 1, end - 1)]
        stated = any(token.text in RELATIONS and token.kind != ":" for token in inside)
        if stated and sum(token.kind in ("|", ":") for token in inside) % 2 == 1:
            return brackets.braces(c, start + 1, end - 1)
        inner = items(c, start + 1, end - 1)
        is_set = inner.head == "list" and inner.name == "," and c.tokens[start].text != STYLED
        return Node("set", inner.args) if is_set else inner
    pieces: list[tuple[int, int]] = []
    joined: set[str] = set()
    logic = ""
    begin = start
    for index in c.outside(start, end):
        kind, text = c.tokens[index].kind, c.tokens[index].text
        sign = text if kind == "word" and text in ("and", "or") else kind
        if kind == "command" and text in ("lor", "vee", "land", "wedge"):
            sign = "or" if text in ("lor", "vee") else "and"
            logic = "l" + sign
        if sign in (",", ";", "quad", "and", "or", "row", "&"):
            if sign == ";" and ";" not in joined and pieces and "," in joined and begin < index:
                return groups(c, start, end)
            if begin < index:
                pieces.append((begin, index))
                joined.add(sign)
            elif pieces:
                joined.add(sign)
            begin = index + 1
    if begin < end:
        pieces.append((begin, end))
    if not pieces:
        raise NotRead
    yes_or_no = c.tokens[start].kind in ("word", "run") and c.tokens[start].text.lower() in ("yes", "no")
    if len(pieces) > 1 and (yes_or_no or is_phrase(c, start, end)):
        return relations.words_as_text(c, start, end)
    nodes: list[Node] = []
    for piece in pieces:
        add_item(c, nodes, piece)
    c.depth -= 1
    if len(nodes) == 1:
        return nodes[0]
    if logic and all(node.head == "symbol" or node.name in ("neg", "lnot") for node in nodes):
        return Node("list", tuple(nodes), logic)  # p \\land q
    return Node("list", tuple(nodes), "or" if "or" in joined else "and" if "and" in joined else ",")


def needless(c: Cursor, index: int) -> bool:
    """Tell whether a token is a word before the answer that means nothing: only, the answer is."""
    token = c.tokens[index]
    return token.kind == "word" and token.text.lower() in NEEDLESS and index + 1 < len(c.tokens)


def is_phrase(c: Cursor, start: int, end: int) -> bool:
    """Tell whether it is a sentence, which "and" or "or" does not make a list."""
    words = sum(token.kind == "word" for token in c.tokens[start:end])
    return words > 5 and words > 0.7 * (end - start)


def groups(c: Cursor, start: int, end: int) -> Node:
    """Read p=5,q=2; p=7,q=2: lists in a list."""
    ends = [index for index in c.outside(start, end) if c.tokens[index].kind == ";"]
    nodes = [items(c, a, b) for a, b in zip([start, *(e + 1 for e in ends)], [*ends, end], strict=True) if a < b]
    c.depth -= 1
    return Node("list", tuple(nodes), ";") if len(nodes) > 1 else nodes[0]


def add_item(c: Cursor, nodes: list[Node], piece: tuple[int, int]) -> None:
    """Add an item to a list, or to the item before if it only says what that one's symbols are."""
    clause = clause_in(c, *piece)
    if clause is not None and nodes:
        nodes[-1] = Node("where", (nodes[-1],), clause)
        return
    if clause is not None and c.tokens[piece[0]].text == "forall" and piece[1] < len(c.tokens):
        return  # \\forall x > 0, f(x) = 0
    if nodes and c.tokens[piece[0]].kind == "word" and c.tokens[piece[0]].text in ("as", "since", "because"):
        return
    words = [token for token in c.tokens[slice(*piece)] if token.kind in ("word", "upright")]
    is_unit = len(words) == piece[1] - piece[0] and all(is_unit_word(t.text) and t.text not in "AIa" for t in words)
    if nodes and is_unit and nodes[-1].head == "number":
        nodes[-1] = Node("quantity", (nodes[-1],), " ".join(token.text for token in words))  # 7, cm
        return
    node = item(c, *piece)
    if nodes and (condition := condition_on(nodes[-1], node)):
        nodes[-1] = Node("where", (nodes[-1],), condition)
        return
    nodes.append(node)


def clause_in(c: Cursor, start: int, end: int) -> str | None:
    r"""Return what $k \in \mathbb{Z}$ or "where k is an integer" says of symbols: `k in Z`; None if it is none."""
    tokens = c.tokens[start:end]
    if not tokens or len(tokens) > 40 or any(token.text == "notin" for token in tokens):
        return None
    if tokens[0].kind == "(" and c.pairs.get(start) == end - 1:
        return clause_in(c, start + 1, end - 1)
    words = [token.text.lower() for token in tokens if token.kind in ("word", "run")]
    names = [token.text for token in tokens if token.kind in ("letter", "upright")]
    first = tokens[0].text.lower()
    if first not in CONDITIONS and any(token.kind == "=" for token in tokens):
        return None
    if first == "for" or first in ("where", "with", "forall"):
        if first == "for" and {"not", "only", "except"} & set(words):
            return None
    elif not (
        tokens[0].kind in ("letter", "upright")
        and len(tokens) > 1
        and (tokens[1].text in ("in", ",", "is", "are", "any", "being", "an") or tokens[-1].kind == "field")
    ):
        return None
    field = next((token.text for token in tokens if token.kind == "field"), "")
    field = field or next(
        (token.text for token in tokens if token.kind == "letter" and token.text in "ZNRQC" and "in" in first), ""
    )
    for stem, letter in (("integer", "Z"), ("natural", "N"), ("real", "R"), ("rational", "Q"), ("complex", "C")):
        if any(word.startswith(stem) for word in words):
            field = field or letter
    bold = [token.text for token in tokens[1:] if token.kind == "letter" and token.text in "ZNRQC"]
    if not field and any(token.text == "in" for token in tokens) and bold:
        field = bold[-1]
    if not field and first not in ("for", "where", "with", "forall"):
        return None
    return f"{','.join(name for name in names if name not in 'ZNRQC')} in {field}".strip()


def item(c: Cursor, start: int, end: int) -> Node:
    """Read a relation or a value, without the clause that may follow it."""
    outside = c.outside(start, end)
    stated = any(c.tokens[index].text in RELATIONS for index in outside)
    while start < end and (needless(c, start) or (stated and c.tokens[start].text in ("all", "every", "any"))):
        start += 1
    outside = [index for index in outside if index >= start]
    for index in outside:
        if index == start:
            continue
        token = c.tokens[index]
        if (token.kind in ("word", "run") and token.text.lower() in CONDITIONS) or token.text == "forall":
            clause = clause_in(c, index, end)
            value = item(c, start, index)
            if clause is None and value.head == "number" and states_case(c, index, end):
                clause = f"case {c.spelled(index + 1, end)}"
            if clause is None or value.head == "text":
                return relations.words_as_text(c, start, end)
            return Node("where", (value,), clause)
    opening = next((a for a, b in c.pairs.items() if b == end - 1 and c.tokens[a].kind == "(" and a > start), None)
    if opening is not None and any(c.tokens[i].text == "in" or c.tokens[i].kind == "word" for i in range(opening, end)):
        clause = clause_in(c, opening, end)
        if clause is not None:
            return Node("where", (item(c, start, opening),), clause)
    if (
        opening is not None
        and any(c.tokens[i].text in RELATIONS for i in range(opening, end))
        and outside[-1] < opening
    ):
        value = item(c, start, opening)
        if condition := condition_on(value, items(c, opening + 1, end - 1)):
            return Node("where", (value,), condition)
    return relations.relation(c, start, end, outside)


def states_case(c: Cursor, start: int, end: int) -> bool:
    """Tell whether a value's clause only says where it is taken: when x = 2."""
    tokens = c.tokens[start:end]
    return tokens[0].text.lower() == "when" and len(tokens) > 3 and tokens[1].kind == "letter" and tokens[2].kind == "="
