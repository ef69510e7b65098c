r"""Remarks behind an answer that say nothing of its value: "is the only solution", "(since x > 0)", "for n = 1, 2"."""

from __future__ import annotations

from guidelines_core.grading.reading.cursor import Cursor
from guidelines_core.grading.reading.vocabulary import DOTS

_BEGIN_REMARK = frozenset("since because rejecting discarding excluding answer final checked verified".split())  # noqa: SIM905
_SAYS_ONLY = frozenset("only unique answer answers solution solutions".split())  # noqa: SIM905
_MAY_STAND = _SAYS_ONLY | frozenset("is are the a an our final possible correct required desired".split())  # noqa: SIM905


def without_remark(c: Cursor, start: int, end: int) -> int:
    """Return where an answer ends that a remark may follow."""
    outside = c.outside(start, end)
    if c.tokens[end - 1].kind == ")" and end - start > 2:
        opening = next((a for a in range(start + 1, end - 2) if c.pairs.get(a) == end - 1), None)
        if opening is not None and bracket_is_remark(c, opening):
            return without_remark(c, start, opening)
    return next((index for index in outside if index > start and is_remark(c, index, end)), end)


def is_remark(c: Cursor, start: int, end: int) -> bool:
    """Tell whether what stands from `start` on is a remark."""
    first, rest = c.tokens[start], c.tokens[start + 1 : end]
    if first.kind != "word":
        return False
    words = {token.text.lower() for token in rest}
    if first.text in ("is", "are"):
        return bool(words & _SAYS_ONLY) and words <= _MAY_STAND and all(token.kind == "word" for token in rest)
    if first.text == "for" and len(rest) > 3 and rest[0].kind == "letter" and rest[1].kind == "=":
        return all(token.kind in ("number", ",", ".") or token.text in DOTS for token in rest[2:])
    return False


def bracket_is_remark(c: Cursor, opening: int) -> bool:
    """Tell whether a bracket holds a remark: (since x > 0)."""
    token = c.tokens[opening + 1]
    return token.kind == "word" and token.text.lower() in _BEGIN_REMARK
