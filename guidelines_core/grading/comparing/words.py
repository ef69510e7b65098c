r"""Answers in words: when two of them say the same, and which of them are a number or a set."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from guidelines_core.grading.reading.nodes import Node, number, symbol

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_NUMBERS = {**{word: n for n, word in enumerate(_SMALL)}, **{word: 10 * n for n, word in enumerate(_TENS, 2)}}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
_SETS = {
    "all real numbers": "field R", "all reals": "field R", "all real": "field R", "real numbers": "field R",
    "any real number": "field R", "set of all real numbers": "field R", "set of real numbers": "field R",
    "reals": "field R", "no solution": "emptyset", "no solutions": "emptyset", "no real solution": "emptyset",
    "no real solutions": "emptyset", "empty set": "emptyset", "infinity": "infty", "no real roots": "emptyset",
    "all integers": "field Z", "all positive integers": "field Z+", "set of all integers": "field Z",
    "all natural numbers": "field N", "all rational numbers": "field Q",
}  # fmt: skip
_SAME = {
    "dne": "does not exist", "doesnotexist": "does not exist", "no solutions": "no solution",
    "no real solutions": "no solution",
    "no real solution": "no solution", "there is no solution": "no solution", "there are no solutions": "no solution",
    "no solution exists": "no solution", "no such": "none", "t": "true", "f": "false", "not possible": "impossible",
    "not defined": "undefined", "cannot be determined": "cannot be determined", "doesn't exist": "does not exist",
    "no real roots": "no real root", "diverges": "divergent", "converges": "convergent", "infinite": "infinitely many",
    "infinite solutions": "infinitely many solutions",
}  # fmt: skip
_FILLERS = frozenset("the a an it is answer option choice".split())  # noqa: SIM905
_NOUNS = frozenset("function functions triangle triangles number numbers solution solutions series sequence".split())  # noqa: SIM905
_AFTER_YES = frozenset("it is they are does do he she can will we there this that the statement so".split())  # noqa: SIM905


@lru_cache(maxsize=4096)
def value_of(text: str) -> Node | None:
    """Return the number or set that words name; None for any other words."""
    plain = _plain(text)
    value = _number_in_words(plain.split())
    if value is not None:
        return number(value)
    for words in (plain, re.sub(r" [a-z]$", "", plain)):  # all real x
        if words in _SETS:
            return symbol(_SETS[words])
    return None


def _number_in_words(words: list[str]) -> Fraction | None:
    """Return the value of "twenty five", "three hundred and two" or "two thirds"; None for any other words."""
    if len(words) == 2 and words[0] in _NUMBERS and _NUMBERS[words[0]] > 0:
        part = _PARTS.get(words[1], _PARTS.get(words[1].removesuffix("s")))
        if part:
            return Fraction(_NUMBERS[words[0]], part)
    total = current = 0
    last = 0  # the size of the word before, so that "two three" is no number
    for word in words:
        if word in _NUMBERS:
            value = _NUMBERS[word]
            if last and not ((value < 10 <= last <= 90 and last % 10 == 0 and last >= 20 and value) or last >= 100):
                return None
            current, last = current + value, value or 1
        elif word == "hundred" and 0 < current < 10:
            current, last = current * 100, 100
        elif word in _SCALES and current:
            total, current, last = total + current * _SCALES[word], 0, 1000
        elif word != "and" or last < 100:
            return None
    return Fraction(total + current) if last else None


@lru_cache(maxsize=4096)
def same_words(gold: str, answer: str) -> bool:
    """Tell whether two answers in words say the same; case, articles and marks at the end mean nothing."""
    wanted, given = _plain(gold), _plain(answer)
    if wanted == given or _SAME.get(wanted, wanted) == _SAME.get(given, given):
        return bool(wanted)
    if sorted(wanted.split()) == sorted(given.split()) and re.search(r"^\w (?=\w+$)|^\w+ \w$", wanted):
        return True  # even n, n even
    if _without_noun(wanted) == _without_noun(given) and (wanted in given or given in wanted):
        return True  # right, right triangle
    first, _, rest = given.partition(" ")
    return (
        wanted in ("yes", "no")
        and first.rstrip(",") == wanted
        and first.endswith(",")
        and set(rest.split()) <= (_AFTER_YES | {"not", "cannot"} if wanted == "no" else _AFTER_YES)
    )


def _without_noun(words: str) -> str:
    first, _, last = words.rpartition(" ")
    return first if first and last in _NOUNS else words


def _plain(text: str) -> str:
    text = re.sub(r"[{}\\]", "", text).casefold().strip(" .!?\"'`")
    text = re.sub(r"(?<=\d)\s*(?:st|nd|rd|th)\b", "", text)
    words = re.sub(r"\s+", " ", re.sub(r"(?<=\w)-(?=\w)", " ", text)).split(" ")
    while len(words) > 2 and words[:2] == ["set", "of"]:
        words = words[2:]
    while len(words) > 1 and words[0] in ("the", "a", "an", "on", "it", "is"):
        words = words[1:]
    if len(words) > 2:
        words = [word for word in words if word not in ("is", "are")]
    if len(words) > 1 and words[-1] == "only":
        words = words[:-1]
    return " ".join(words)


def same_in_words(gold: Node, answer: Node) -> bool:
    """Compare two answers of which one is in words; a name may stand for the other's letter."""
    if gold.head == answer.head == "text":
        return same_words(gold.name, answer.name)
    if gold.head == "text":
        letters = answer.name if answer.head == "symbol" else ""
        letters = "infinitely many" if letters == "infty" else letters
        return same_words(gold.name, letters) if letters else False
    if answer.head == "text" and gold.head in ("symbol", "*") and len(answer.name) < 30:
        return gold.head == "symbol" and same_words(gold.name, answer.name)
    return False
