r"""One item of an answer: a relation between sides, a value with its unit, or words."""

from __future__ import annotations

from guidelines_core.grading.reading import parser, quantities
from guidelines_core.grading.reading.built import negative
from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.nodes import Node, symbol
from guidelines_core.grading.reading.tokens import NotRead
from guidelines_core.grading.reading.vocabulary import MEASURES, RELATIONS


def relation(c: Cursor, start: int, end: int, outside: list[int]) -> Node:
    """Read sides with relation signs between them, or one value."""
    signs: list[str] = []
    sides: list[tuple[int, int]] = []
    begin, skip = start, -1
    for index in outside:
        token = c.tokens[index]
        if index <= skip:
            continue
        sign = RELATIONS.get(token.text) if token.kind in ("command", token.text) else None
        if token.kind == "command" and token.text == "not":
            sign = "!="
            skip = index + 1
        following = c.tokens[index + 1] if index + 1 < end else None
        if token.kind == "!" and following and following.text == "=" and (token.spaced or index == start):
            sign, skip = "!=", index + 1
        elif token.kind == "word" and token.text in ("is", "are", "equals") and is_name_in_words(c, start, index):
            sign = "="
        elif token.kind == "word" and token.text == "to" and is_number_to_number(c, index, start, end):
            sign = "to"
        elif sign in ("<", ">", "=", ":") and following and following.kind in ("=", ">") and not following.spaced:
            sign = {"<": "<=", ">": ">=", "=": "=>" if following.kind == ">" else "=", ":": "="}[sign]
            skip = index + 1
        if sign == ":" and is_words(c, begin, index):
            sign = "="  # number of ways: 3
        if sign:
            sides.append((begin, index))
            signs.append(sign)
            begin = max(index, skip) + 1
    sides.append((begin, end))
    if not signs:
        return value_or_text(c, start, end)
    if sides[0][0] == sides[0][1] and len(signs) == 1:  # \approx 3, \ge 4
        return Node("relation", (symbol(""), value_or_text(c, *sides[1])), signs[0])
    if any(a == b for a, b in sides):
        raise NotRead
    return Node("relation", tuple(side_of(c, *side) for side in sides), " ".join(signs))


def is_name_in_words(c: Cursor, start: int, end: int) -> bool:
    """Tell whether a range is words alone, as before the "is" of "the remainder is 9"."""
    tokens = c.tokens[start:end]
    return bool(tokens) and tokens[0].kind == "word" and all(t.kind in ("word", "upright") for t in tokens)


def is_number_to_number(c: Cursor, index: int, start: int, end: int) -> bool:
    """Tell whether a "to" stands between two numbers and nothing else: 2 to 3."""
    return start + 1 == index == end - 2 and c.tokens[start].kind == c.tokens[end - 1].kind == "number"


def is_words(c: Cursor, start: int, end: int) -> bool:
    """Tell whether a range is words, which name what follows a colon."""
    kinds = {token.kind for token in c.tokens[start:end]}
    return "word" in kinds and kinds <= {"word", "upright", "letter", "run"}


def side_of(c: Cursor, start: int, end: int) -> Node:
    """Read one side of a relation; what cannot be read is a name for what it is equal to."""
    try:
        outside = c.outside(start, end)
        if any(c.tokens[index].kind in (",", ";") for index in outside):
            raise NotRead
        return value_or_text(c, start, end)
    except NotRead:
        brackets = [(c.tokens[a].kind, c.tokens[b].kind) for a, b in c.pairs.items() if start <= a < end]
        if ("(", "]") in brackets or ("[", ")") in brackets:
            raise
        return Node("opaque", name=c.spelled(start, end))


def value_or_text(c: Cursor, start: int, end: int) -> Node:
    """Read a value with its unit; words where it is none."""
    if start >= end:
        raise NotRead
    if (
        c.tokens[start].text.lower() in ("negative", "minus")
        and end > start + 1
        and c.tokens[start + 1].kind == "number"
    ):
        value = value_or_text(c, start + 1, end)
        return Node(value.head, (negative(value.args[0]),), value.name) if value.head == "quantity" else negative(value)
    if c.tokens[start].text.lower() in MEASURES and end > start + 1 and c.tokens[start + 1].kind == "number":
        return Node("relation", (words_as_text(c, start, start + 1), value_or_text(c, start + 1, end)), "=")
    if is_text(c, start, end):
        return words_as_text(c, start, end)
    kept = c.at, c.end, c.tokens[start:end], c.in_bars, c.depth
    try:
        c.at, c.end, c.in_bars = start, end, 0
        node = quantities.quantity(c)
        if c.at != c.end:
            raise NotRead
        return node
    except NotRead:
        c.tokens[start:end] = kept[2]
        if any(token.kind in ("word", "run") for token in c.tokens[start:end]):
            return words_as_text(c, start, end)
        raise
    finally:
        c.at, c.end, c.in_bars, c.depth = kept[0], kept[1], kept[3], kept[4]


def is_text(c: Cursor, start: int, end: int) -> bool:
    """Tell whether it is words: text first, or a single run of letters that is no product of two."""
    tokens = c.tokens[start:end]
    first = tokens[0]
    if c.in_arguments and first.kind == "run" and first.text.isupper():
        return False  # \\frac{NO}{BO}
    if first.kind == "word":
        if first.text in ("USD", "EUR", "GBP", "Rs", "INR", "US") and len(tokens) > 1:
            return False
        return not (len(tokens) > 1 and tokens[1].kind in ("(", "_") and not tokens[1].spaced)
    if first.kind == "run":
        return (len(tokens) == 1 and (len(first.text) > 2 or first.text.lower() in ("no", "on"))) or (
            len(tokens) > 1 and tokens[1].kind in ("run", "word") and tokens[1].spaced
        )
    return first.kind in ("upright", "letter") and len(tokens) > 1 and tokens[1].kind == "word" and tokens[1].spaced


def words_as_text(c: Cursor, start: int, end: int) -> Node:
    """Return a range as words."""
    words = [token.text.lower() for token in c.tokens[start:end]]
    for index, word in enumerate(words[:-1]):
        if word in ("except", "but") and " ".join(words[:index]) in ("all real numbers", "all reals", "all real x"):
            left_out = parser.items(c, start + index + 1, end)
            return Node(
                "minus", (symbol("field R"), Node("set", left_out.args if left_out.head == "list" else (left_out,)))
            )
    return Node("text", name=c.spelled(start, end))
