r"""The unit of an answer and what it converts to: `3\text{ cm}^2`, `\$5`, `50\%`, `60 km/h`, `5 trillion`.

pint's registry knows the units and is loaded at the first pair of two units that differ. Words that it does not know
("apples") are a label, as long as they are nouns: a word that makes another number of the number ("halves", "divided
by two"), or another statement ("at least", "is wrong"), is no unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

_WHOLE_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "dozen": 12, "lakh": 10**5, "crore": 10**7, "score": 20, "gross": 144,
}  # fmt: skip
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000, "millionth": 10**6,
}  # fmt: skip
_SCALES = {
    **{name + end: Fraction(size) for name, size in _WHOLE_SCALES.items() for end in ("", "s")},
    **{name + "s": Fraction(1, size) for name, size in _PARTS.items()},
}
_NUMERALS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "  # noqa: SIM905
    "fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety half halves quarter quarters third thirds "
    "googol pair pairs couple double triple quadruple twice thrice single first second third fourth fifth sixth "
    "seventh eighth ninth tenth hundredth thousandth".split()
)
_FUNCTION_WORDS = frozenset(
    "not no nor neither none or and but yet so if unless when whenever while because "  # noqa: SIM905
    "since although though whether than then else otherwise either both to from by with without within at on off over "
    "under above below between beyond about around near up down out into onto upon after before until till except "
    "besides instead is are was were be "
    "been isn aren wasn am being has have had do does did will would can could may might must shall should cannot "
    "maybe perhaps possibly probably likely approximately roughly nearly almost more most less least fewer fewest "
    "greater larger smaller bigger lower higher minimum maximum exact times plus minus divided multiplied added "
    "subtracted increased decreased reduced raised squared cubed doubled tripled halved negated inverted rounded "
    "quotient remainder mod modulo base power powers root factorial percentile choose permute sum product difference "
    "ratio log sine cosine pi infinity infinite imaginary negative positive wrong false incorrect right true correct "
    "invalid impossible undefined unknown ie eg etc vs versus versa aka that which who what this these those it its "
    "he she they we you i wait actually rather however therefore hence thus thousandths hundredths tenths ths "
    "inclusive exclusive through thru also even extra another other additional further repeating recurring "
    "fold ish kilo mega giga milli centi micro prime squares cubes e x y z n k somewhat some many any few all "
    "each every per-mille permille permil".split()
) - {"any", "each", "all", "every", "some"}
_LINKS = frozenset("of per a an the each any in for square cubic sq cu every all".split())  # noqa: SIM905
_NOT_ALONE = frozenset("a an the of in per for each any every all square cubic sq cu".split())  # noqa: SIM905
_MADE_OF_NUMBERS = re.compile(
    rf"(?:{'|'.join(sorted(_NUMERALS | set(_SCALES), key=len, reverse=True))})(?:s|th|ths|fold|some)?|"
    r"\w*(?:illion|illions|illionths?|teen|teenths?|tieths?|ndredths?|sandths?)|(?:un|quin|sex|sept|oct)tuple\w*"
)
_SPELLINGS = {
    "sec": "second", "secs": "second", "second": "second", "seconds": "second", "s": "second", "min": "minute",
    "mins": "minute", "hr": "hour", "hrs": "hour", "h": "hour", "hours": "hour", "g": "gram", "m": "meter",
    "l": "liter", "L": "liter", "cc": "cm**3", "lb": "pound", "lbs": "pound", "pounds": "pound", "oz": "ounce",
    "ounces": "ounce", "ton": "ton", "tons": "ton", "tonne": "tonne", "tonnes": "tonne", "mph": "mile/hour",
    "kph": "km/hour", "kmph": "km/hour", "kmh": "km/hour", "in": "inch", "inches": "inch", "ft": "foot",
    "feet": "foot", "yd": "yard", "yds": "yard", "mi": "mile", "gal": "gallon", "qt": "quart", "pt": "pint",
    "C": "degC", "F": "degF", "°": "degree", "degrees": "degree", "deg": "degree", "°c": "degC", "°f": "degF",
    "K": "kelvin", "celsius": "degC", "fahrenheit": "degF", "radian": "radian", "radians": "radian", "rad": "radian",
    "rads": "radian", "%": "percent", "percent": "percent", "pct": "percent", "percentage": "percent", "$": "dollar",
    "dollar": "dollar", "dollars": "dollar", "usd": "dollar", "USD": "dollar", "bucks": "dollar", "buck": "dollar",
    "cent": "cent", "cents": "cent", "¢": "cent", "penny": "cent", "pennies": "cent", "nickel": "nickel",
    "nickels": "nickel", "dime": "dime", "dimes": "dime", "€": "euro", "euro": "euro", "euros": "euro", "eur": "euro",
    "EUR": "euro", "£": "sterling", "gbp": "sterling", "GBP": "sterling", "¥": "yen", "yen": "yen", "yuan": "yuan",
    "rmb": "yuan", "RMB": "yuan", "CNY": "yuan",
    "元": "yuan", "美元": "dollar", "₹": "rupee", "rupee": "rupee", "rupees": "rupee",
    "rs": "rupee", "INR": "rupee", "inr": "rupee", "day": "day", "days": "day", "week": "week", "weeks": "week",
    "wk": "week", "month": "months_", "months": "months_", "mo": "months_", "year": "years_", "years": "years_",
    "yr": "years_", "yrs": "years_", "厘米": "cm", "米": "meter",
    "千米": "km", "公里": "km", "毫米": "mm", "分米": "dm",
    "克": "gram", "千克": "kg", "公斤": "kg", "吨": "tonne",
    "升": "liter", "毫升": "mL", "秒": "second", "分钟": "minute",
    "分": "minute", "小时": "hour", "时": "hour",
    "天": "day", "日": "day", "度": "degree", "平方厘米": "cm**2",
    "平方米": "meter**2", "立方厘米": "cm**3", "立方米": "meter**3",
    "角": "jiao", "p.m.": "pm", "pm": "pm", "a.m.": "am",
    "am": "am", "p.m": "pm", "a.m": "am", "PM": "pm", "AM": "am", "square": "", "sq": "", "kwh": "kWh", "kWh": "kWh",
    "ohm": "ohm", "ohms": "ohm", "amps": "ampere", "amp": "ampere", "volts": "volt", "V": "volt",
    "W": "watt", "J": "joule", "N": "newton", "newtons": "newton", "joules": "joule", "watts": "watt", "Hz": "hertz",
    "hz": "hertz", "Pa": "pascal", "mol": "mole", "moles": "mole", "fl": "", "cup": "cup", "cups": "cup",
    "acre": "acre", "acres": "acre", "hectare": "hectare", "hectares": "hectare",
}  # fmt: skip
_NAMES = frozenset(
    "mm cm dm km millimeter centimeter decimeter kilometer millimetre centimetre decimetre kilometre meter "  # noqa: SIM905
    "metre inch foot yard mile micrometer nanometer nm fathom furlong lightyear mg kg milligram kilogram gram "
    "pound ounce stone ms millisecond second minute hour ml mL cl dl kl milliliter millilitre centiliter "
    "centilitre liter litre gallon quart pint teaspoon tablespoon tbsp tsp kelvin newton joule watt volt ampere "
    "hertz pascal mole kilowatt kw kW megawatt knot radian degree byte bit".split()
)
_DEGREES = re.compile(r"\bdegrees? (celsius|fahrenheit|[CF])\b", re.IGNORECASE)
_ANY_UNIT = frozenset({"unit", "units", "old", "long", "wide", "tall", "high", "deep", "away", "apart", "total"})
_PREFIXED = re.compile("(?:[kMGTmµnpc](?:N|J|W|V|Hz|Pa|eV|Wh|cal|mol|bar)|[mkµ]A)")
_DEFINITIONS = """
dollar = [dollars]
cent = dollar / 100
nickel = dollar / 20
dime = dollar / 10
euro = [euros]
sterling = [sterlings]
yen = [yens]
yuan = [yuans]
jiao = yuan / 10
rupee = [rupees]
months_ = [months]
years_ = 12 * months_
""".strip().splitlines()


@dataclass(frozen=True)
class Unit:
    r"""What an answer is measured in.

    Attributes:
        name: pint's name (`km / hour`); `percent`, `am`, `pm`, or nothing for a unit that is not known.
        times: a factor in words: "million".
        is_label: whether words are there that name no unit, and none that does: "apples".
    """

    name: str
    times: Fraction = Fraction(1)
    is_label: bool = False


@lru_cache(maxsize=4096)
def is_unit_word(word: str) -> bool:
    """Tell whether a word is a unit that converts."""
    return _known(word) is not None


def _known(word: str) -> str | None:
    for spelling in (word, word.lower(), word.rstrip(".").lower()) if len(word) > 1 else (word,):
        if spelling in _SPELLINGS:
            return _SPELLINGS[spelling] or None
        if spelling in _NAMES:
            return spelling
        if spelling.endswith("s") and spelling[:-1] in _NAMES and len(spelling) > 3:
            return spelling[:-1]
        if spelling.endswith("es") and spelling[:-2] in _NAMES:
            return spelling[:-2]
    return word if _PREFIXED.fullmatch(word) else None


@lru_cache(maxsize=4096)
def is_unit_phrase(phrase: str) -> bool:
    """Tell whether the words after a number may be its unit: a noun, or what is known to be one."""
    words = [word for word in phrase.split() if word not in ("/", "^", "-", "*", "°") and not word.isdigit()]
    if not words:
        return "°" in phrase
    if len(words) > 6 or all(word.lower() in _NOT_ALONE and _known(word) is None for word in words):
        return False
    scales = 0
    for index, word in enumerate(words):
        lower = word.lower()
        if _known(word) is not None and not (
            lower in ("second", "third", "c", "f", "k", "v", "in") and len(words) > 1 and index
        ):
            continue
        if lower in _SCALES:
            scales += 1
            if index or scales > 1:
                return False
            continue
        if (lower == "times" and index == len(words) - 1 == 0) or lower in _LINKS or lower in _SPELLINGS:
            continue
        if lower in _FUNCTION_WORDS or _MADE_OF_NUMBERS.fullmatch(lower) or (len(word) == 1 and word.isascii()):
            return False
        if (
            index == len(words) - 1
            and re.fullmatch(r"\w{3,}(?:ed|ly)", lower)
            and lower
            not in ("seed", "bed", "breed", "family", "reed", "weed", "feed", "fly", "lily", "jelly", "bully", "belly")
        ):
            return False
        if not re.fullmatch(r"[^\W\d_][\w.'-]*|[$€£¥₹%]", word):
            return False
    return True


@lru_cache(maxsize=4096)
def unit_of(phrase: str) -> Unit:
    """Return the unit that a phrase, which `is_unit_phrase` accepts, names."""
    parts: list[str] = []
    times = Fraction(1)
    power, divided, known, labels = 0, False, True, 0
    tokens = _DEGREES.sub(r"\1", phrase.replace("° ", "°")).split()
    index = 0
    while index < len(tokens):
        word = tokens[index]
        lower = word.lower()
        index += 1
        if word == "/" or lower == "per":
            divided = True
        elif lower in ("square", "sq"):
            power = 2
        elif lower in ("cubic", "cu"):
            power = 3
        elif lower in ("of", "a", "an", "the", "*", "each", "any"):
            continue
        elif lower in _SCALES and not parts:
            times *= _SCALES[lower]
        elif word in ("^", "-") or word.isdigit():
            known = False
        else:
            name = _known(word)
            if name is None:
                known = False
                labels += lower not in _ANY_UNIT
                continue
            exponent = 1
            if tokens[index : index + 1] == ["^"]:
                signed = tokens[index + 1 : index + 3]
                negative = signed[:1] == ["-"]
                digits = signed[1 if negative else 0] if len(signed) > negative else ""
                if not digits.isdigit():
                    known = False
                    continue
                exponent = -int(digits) if negative else int(digits)
                index += 2 + negative
            exponent *= power or 1
            power = 0
            parts.append(f"{'/' if divided else '*'} ({name})**{exponent}")
    if not known or not parts:
        return Unit("", times, labels > 0 and not parts)
    if len(parts) == 1 and parts[0].endswith("**1") and parts[0][0] == "*":
        return Unit(parts[0][3:-4], times)
    return Unit(" ".join(parts).removeprefix("* "), times) if parts[0][0] == "*" else Unit("", times)


@lru_cache(maxsize=1)
def _registry() -> Any:
    from pint import UnitRegistry

    registry: Any = UnitRegistry(non_int_type=Fraction, cache_folder=None)
    for definition in _DEFINITIONS:
        registry.define(definition)
    return registry


@lru_cache(maxsize=4096)
def _in_base_units(name: str) -> tuple[Fraction, str] | None:
    """Return a unit's size in base units and what these are; None if pint does not know it."""
    if name in ("am", "pm", "percent", "degC", "degF"):
        return Fraction(1), name
    if name == "degree":
        return Fraction(1), "degree"
    if name == "radian":
        return Fraction(1), "radian"
    registry = _registry()
    try:
        quantity = (1 * registry.parse_expression(name)).to_base_units()
    except Exception:  # pint raises whatever its tokenizer does
        return None
    return Fraction(quantity.magnitude), str(sorted(quantity.dimensionality.items()))


def factors(gold: Unit | None, answer: Unit | None) -> list[Fraction]:
    """Return what an answer's value may be multiplied with to stand in the gold's unit; nothing if it cannot.

    Two known units must convert. An answer, or a gold, may leave its unit out; 50 % may be written as 50 or 0.5,
    and 75 cents as 0.75.
    """
    times = (answer.times if answer else Fraction(1)) / (gold.times if gold else Fraction(1))
    wanted, given = gold.name if gold else "", answer.name if answer else ""
    if wanted == given:
        return [times]
    if (gold and gold.is_label) or (answer and answer.is_label):
        return [] if wanted or given else [times]
    if wanted and given:
        sizes = _in_base_units(wanted), _in_base_units(given)
        if sizes[0] is None or sizes[1] is None or sizes[0][1] != sizes[1][1]:
            return []
        return [times * sizes[1][0] / sizes[0][0]]
    if wanted == "percent":
        return [times, 100 * times]
    return [times, times / 100] if given in ("percent", "cent") else [times]
