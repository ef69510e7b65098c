r"""The unit of an answer: `3\text{ cm}^2`, `\$5`, `50\%`, `60 km/h`, `45^\circ`, taken off its value and converted."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

_SIZES: dict[str, dict[str, str]] = {
    "length": {
        "1/1000": "mm millimeter millimeters millimetre millimetres",
        "1/100": "cm centimeter centimeters centimetre centimetres",
        "1/10": "dm decimeter decimeters decimetre decimetres",
        "1": "m meter meters metre metres",
        "1000": "km kilometer kilometers kilometre kilometres",
        "127/5000": "in inch inches",
        "381/1250": "ft foot feet",
        "1143/1250": "yd yard yards",
        "201168/125": "mi mile miles",
    },
    "mass": {"1/1000": "mg", "1": "g gram grams", "1000": "kg kilogram kilograms"},
    "time": {
        "1": "s sec second seconds",
        "60": "min minute minutes",
        "3600": "h hr hrs hour hours",
        "86400": "day days",
        "604800": "week weeks",
    },
    "month": {"1": "month months", "12": "year years"},
    "dollar": {"1": "dollar dollars usd", "1/100": "cent cents"},
    "euro": {"1": "euro euros eur"},
    "pound": {"1": "gbp"},
    "yen": {"1": "yen yuan"},
    "angle": {"1": "degree degrees"},
    "percent": {"1/100": "percent"},
}
_TIMES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_KNOWN = {
    name: (dimension, Fraction(size))
    for dimension, sizes in _SIZES.items()
    for size, names in sizes.items()
    for name in names.split()
}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
# Words after a number that make it another number, or no number at all.
_NO_UNIT = frozenset(
    "not or and if to squared cubed pi root half minus plus negative except e i x y z n k over factorial "  # noqa: SIM905
    "th st nd rd third thirds quarter quarters infinity base mod so".split()
)

_CURRENCY = re.compile(
    r"\s*(?P<minus>-?)\s*(?:\\(?:text|mathrm)\s*\{\s*)?(?P<sign>\\?\$|\\?€|£|¥|\b(?:USD|EUR|GBP)\b)\s*\}?\s*(?=[\d.\\-])"
)
_SIGN_AFTER = re.compile(r"(?<=[\d)}])\s*(?:(?P<sign>\\?[$€£¥%])|\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])|°)\s*")
_SIGNS = {"$": "usd", "€": "eur", "£": "gbp", "¥": "yen", "%": "percent"}
_WORDS = r"\\(?:text|textrm|textbf|mathrm|mbox|operatorname)\s*\{[^{}\d,;|]*(?:\^\d[^{}\d,;|]*)?\}"
_POWER = r"\s*(?:\^\s*\{?\s*-?[123]\s*\}?|[²³])?"
_TEXT_UNIT = re.compile(rf"(?P<value>.*[^\s/\\,~])(?:\s|~|\\[ ,;:!])*(?P<unit>(?:{_WORDS}{_POWER}[\s/~]*)+)", re.DOTALL)
_BARE_UNIT = re.compile(rf"(?P<value>.*[\d)}}]|.*\\pi)\s+(?P<unit>[a-z]+(?:\s*/\s*[a-z]+)?{_POWER})", re.DOTALL)
_PART = re.compile(r"([A-Za-z]+)(?:\^(-?[123]))?")


@dataclass(frozen=True)
class Unit:
    """What is measured (dimensions and their powers, sorted), the unit's size, and a factor in words ("million")."""

    dimensions: tuple[tuple[str, int], ...]
    size: Fraction = Fraction(1)
    times: Fraction = Fraction(1)


def _unit(name: str) -> Unit:
    dimension, size = _KNOWN[_SIGNS.get(name[-1], name.lower())]
    return Unit(((dimension, 1),), size)


PERCENT = _unit("percent")
DEGREE = _unit("degree")


def split_unit(latex: str) -> tuple[str, Unit | None]:
    """Return the value and its unit; None for no unit or one that is not known ("apples"), which is dropped."""
    if currency := _CURRENCY.match(latex):
        value, more = split_unit(latex[currency.end() :])
        unit = _unit(currency["sign"])
        return currency["minus"] + value, Unit(unit.dimensions, unit.size, more.times) if more else unit
    for found in _SIGN_AFTER.finditer(latex):
        if found.end() == len(latex):
            return latex[: found.start()], _unit(found["sign"] or "degree")
    match = _TEXT_UNIT.fullmatch(latex) or _BARE_UNIT.fullmatch(latex)
    if not match:
        return latex, None
    words, unit_of_words = _read(match["unit"])
    if not words or len(words) > 4 or _NO_UNIT & set(words):
        return latex, None
    value, known_all = match["value"].strip(), unit_of_words is not None
    bare = "\\" not in match["unit"]
    if (bare and not known_all) or (bare and len(words[0]) < 3 and re.search(r"(?<![\\A-Za-z])[A-Za-z]", value)):
        return latex, None  # a variable: r^2 h
    if not known_all and not re.fullmatch(r"(?!.*\\text).*(?:[\d)}]|\\pi)", value, re.DOTALL):
        return latex, None
    return value, unit_of_words


def _read(text: str) -> tuple[list[str], Unit | None]:
    """Return a unit's words, and what they measure; None if a word is not known and none is a factor."""
    plain = re.sub(r"\\[a-z]+\s*\{([^{}]*)\}", r" \1 ", text)
    plain = re.sub(r"\^\s*\{?\s*(-?[123])\s*\}?", r"^\1", plain.replace("²", "^2").replace("³", "^3").replace("~", " "))
    plain = re.sub(r"\s+\^", "^", plain)
    dimensions: Counter[str] = Counter()
    size, times, power, sign = Fraction(1), Fraction(1), 1, 1
    words, known = [], True
    for token in re.findall(r"[A-Za-z]+(?:\^-?[123])?|/", plain):
        if token == "/" or token == "per":
            sign = -1
            continue
        part = _PART.fullmatch(token)
        assert part is not None
        word = part[1] if part[1] in _KNOWN else part[1].lower()
        words.append(word)
        if word in _POWERS:
            power = _POWERS[word]
        elif word in _KNOWN:
            dimension, factor = _KNOWN[word]
            exponent = sign * power * int(part[2] or 1)
            dimensions[dimension] += exponent
            size *= factor**exponent
            power = 1
        elif word in _TIMES:
            times *= _TIMES[word]
        else:
            known = False
    if not known and times == 1:
        return words, None
    return words, Unit(tuple(sorted((d, n) for d, n in dimensions.items() if n)) if known else (), size, times)


def factors(gold: Unit | None, answer: Unit | None) -> list[Fraction]:
    """Return what an answer's value may be multiplied with to stand in the gold's unit; nothing if it cannot.

    An answer may leave its unit out, and 50 % may be written as 50 % or 0.5, but not 50 as 0.5.
    """
    times = (answer.times if answer else Fraction(1)) / (gold.times if gold else Fraction(1))
    if gold and answer and gold.dimensions and answer.dimensions:
        return [times * answer.size / gold.size] if gold.dimensions == answer.dimensions else []
    if gold == PERCENT:
        return [times, 100 * times]
    return [times, times / 100] if answer == PERCENT else [times]
