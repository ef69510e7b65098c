r"""Whether an answer equals the gold mathematically: one list of stages, each of which decides or passes on.

`STAGES` is the whole way of a pair. `quick_equal` asks the stages that are quick whatever they are given; `math_equal`
asks all of them and may compute forever: `pool` calls it in a child process. math-verify and SymPy are imported when
the first pair comes to them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from guidelines_core.grading import mathverify
from guidelines_core.grading.choices import ANY_LABEL, choice_in, in_order, letters_in
from guidelines_core.grading.clean import plain
from guidelines_core.grading.comparing.compare import equal
from guidelines_core.grading.comparing.values import rational, rounds_to
from guidelines_core.grading.extract import gold_text
from guidelines_core.grading.reading.nodes import number as number_node
from guidelines_core.grading.reading.parser import read
from guidelines_core.grading.reading.tokens import NotRead, join_thousands, tokens_of

MAX_CHECKED_GOLD = 200  # characters; `gold_parses` says no to a longer gold that is no plain number


class Pair(NamedTuple):
    """A gold and an answer, cleaned."""

    gold: str
    answer: str


Stage = Callable[[Pair], "bool | None"]
"""Decides a pair, or says None, and the next stage is asked."""


def same_text(pair: Pair) -> bool | None:
    """The same tokens: layout and spaces mean nothing, but between two numbers."""
    if pair.gold == pair.answer:
        return True
    try:
        return True if _spelling(pair.gold) == _spelling(pair.answer) else None
    except NotRead:
        return None


def plain_numbers(pair: Pair) -> bool | None:
    """Two plain numbers or simple fractions, compared exactly."""
    number, other = plain_number(pair.gold), plain_number(pair.answer)
    if number is None or other is None:
        return None
    if number == other or ("." in pair.gold) == ("." in pair.answer):
        return number == other
    exact, decimal = (other, pair.gold) if "." in pair.gold else (number, pair.answer)
    return rounds_to(number_node(exact), number_node(join_thousands(decimal).lstrip("+")))


def choices(pair: Pair) -> bool | None:
    """Letters of a multiple choice; what stands behind the letter is compared only where both have it, or one only."""
    letters, others = letters_in(pair.gold), letters_in(pair.answer)
    wanted, given = choice_in(pair.gold), choice_in(pair.answer)
    if letters and in_order(pair.gold) and (others or (given and not given.rest)):
        return letters == others
    if wanted and given:
        if wanted.label != given.label or ANY_LABEL.search(given.rest):
            return False
        return True if not (wanted.rest and given.rest) else judge(Pair(plain(wanted.rest), plain(given.rest)), STAGES)
    if wanted and wanted.rest:
        return judge(Pair(plain(wanted.rest), pair.answer), STAGES)
    if given and given.rest and not wanted:
        return judge(Pair(pair.gold, plain(given.rest)), STAGES)
    return None


def forms(pair: Pair) -> bool | None:
    """Both read by the grader's own parser and compared by what they are, numbers exactly."""
    gold, answer = read(pair.gold), read(pair.answer)
    if gold is None or answer is None:
        return None
    return equal(gold, answer)


def math_verify(pair: Pair) -> bool | None:
    """What the parser does not read: math-verify, and its verdict checked again by exact arithmetic."""
    return mathverify.equal(pair.gold, pair.answer)


def decimal_commas(pair: Pair) -> bool | None:
    """The same digits with a decimal comma on one side and a decimal point on the other: 2,5 and 2.5."""
    for comma, point in (pair, tuple(reversed(pair))):
        match = _DECIMAL_COMMA.match(comma)
        if match and re.match(rf"{re.escape(match[1])}\.{match[2]}(?![\d.])", point):
            written = f"{match[1]}.{match[2]}{comma[match.end() :]}"
            other = Pair(written, point) if comma == pair.gold else Pair(point, written)
            return judge(other, STAGES) or None
    return None


STAGES: tuple[Stage, ...] = (same_text, plain_numbers, decimal_commas, choices, forms, math_verify)
QUICK: tuple[Stage, ...] = (same_text, plain_numbers)


def judge(pair: Pair, stages: tuple[Stage, ...]) -> bool | None:
    """Return the first verdict of the stages; None if none of them decides."""
    for stage in stages:
        verdict = stage(pair)
        if verdict is not None:
            return verdict
    return None


def quick_equal(gold: str, answer: str) -> bool | None:
    """Decide what needs no algebra: the same text, or two plain numbers; None for anything else."""
    return judge(Pair(plain(gold), plain(answer)), QUICK)


def math_equal(gold: str, answer: str) -> bool | None:
    """Judge by all stages; may run forever. None if the gold is nothing that is understood."""
    return judge(Pair(plain(gold), plain(answer)), STAGES)


def gold_parses(gold: str) -> bool:
    """Tell whether `math_equal` understands a gold: by the grader's own parser, else by math-verify's.

    The parse runs in this process and without a deadline: golds come from data files, not from a model that
    is rewarded for what it writes, and no more than `MAX_CHECKED_GOLD` characters are parsed.
    """
    text = gold_text(gold)
    if text is None:
        return False
    text = plain(text)
    if plain_number(text) is not None:
        return True
    if len(text) > MAX_CHECKED_GOLD:
        return False
    if read(text) is not None or choice_in(text) is not None:
        return True
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that the parse has no deadline
    return bool(mathverify.parse(text))


def number_of(latex: str) -> Fraction | None:
    """Return the number that an answer is, whatever its unit, letter of a choice or name; None if it is none.

    Only numbers written as such count, and their fractions: not 2^{10}, nor sqrt(4).
    """
    text = plain(latex)
    if (choice := choice_in(text)) and choice.rest:
        text = plain(choice.rest)
    value = plain_number(text)
    if value is not None:
        return value
    node = read(text)
    while node is not None and node.head in ("quantity", "relation", "where"):
        if node.head == "relation" and (node.name != "=" or node.args[0].head not in ("symbol", "text")):
            return None
        node = node.args[-1]
    if node is not None and node.name == "deg":
        node = node.args[0]
    written = node is not None and all(p.head in ("number", "/", "*") or p.name == "mixed" for p in node.walk())
    return rational(node) if node is not None and written else None


@lru_cache(maxsize=4096)
def _spelling(latex: str) -> tuple[tuple[str, str, bool], ...]:
    found: list[tuple[str, str, bool]] = []
    for token in tokens_of(latex):
        text = "frac" if token.text in ("dfrac", "tfrac", "cfrac") else token.text
        kind = "letters" if token.kind in ("letter", "upright", "run", "word") else token.kind
        found.append((kind, text, token.spaced and bool(found) and found[-1][0] == token.kind == "number"))
    return tuple(found)


_DECIMAL_COMMA = re.compile(r"([+-]?0|[+-]?\d+(?=,(?!\d{3}(?!\d)))),(\d+)(?![\d,])")
_PLAIN_NUMBER = re.compile(
    r"([+-]?)\s*(?:(\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})|\\[dtc]?frac\{(-?\d{1,60})\}\{(\d{1,60})\}|(\d{1,60})/(\d{1,60}))"
)


def plain_number(latex: str) -> Fraction | None:
    """Return the value of a plain number (60 digits at most) or simple fraction; None for anything else."""
    match = _PLAIN_NUMBER.fullmatch(join_thousands(latex))
    if not match:
        return None
    sign, decimal, top, bottom, above, below = match.groups()
    if decimal:
        value = Fraction(decimal)
    elif int(bottom or below) == 0:
        return None
    else:
        value = Fraction(int(top or above), int(bottom or below))
    return -value if sign == "-" else value
