r"""A solution's final answer, and whether it equals the gold: as text, or by math-verify.

The text functions take linear, capped time. `math_equal` may compute for ever: `grading` calls it in a child
process. math-verify is imported at its first use.
"""

from __future__ import annotations

import logging
import re
from typing import Any

MAX_SOLUTION = 32_000  # characters from the end that are searched for the answer: at most some 10 ms
MAX_ANSWER = 2_000  # characters; longer is no final answer
MAX_CHECKED_GOLD = 200  # characters; `gold_parses` says no to a longer gold that is no plain number

# -- what the answer is -----------------------------------------------------------------------------------

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_CONNECTOR = re.compile(r"(?:[\s$.,;&()\[\]}]|\\[()\[\],;]|\\q?quad|\\text\s*\{|\b(?:and|or)\b)*")
_ANSWER_IS = re.compile(r"\banswer\b[^.\n]{0,40}?(?:\bis\b|:|=)[\s*:]*([^\n]+)", re.IGNORECASE)
_MATH = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\s*\\?%)?")


def final_answer(solution: str) -> str | None:
    r"""Return the text of the solution's final answer, or None.

    The last closed `\boxed{}` that is not empty, joined with commas to boxes right before it that differ (a
    list of candidates stays a list). None for a box that is never closed or too long. Without any box: what
    follows "the answer is", else the last formula or number.
    """
    text = solution[-MAX_SOLUTION:]
    stack: list[int | None] = []
    boxes: list[tuple[int, int, int]] = []  # where the command, its content and its closing brace start
    starts: dict[int, int] = {}
    for token in _BRACE.finditer(text):
        if token.group() in ("}", "{"):
            if token.group() == "{":
                stack.append(None)
            elif stack and (start := stack.pop()) is not None:
                boxes.append((starts.pop(start), start, token.start()))
        elif len(token.group()) > 2:
            stack.append(token.end())
            starts[token.end()] = token.start()
    boxes = [box for box in boxes if text[box[1] : box[2]].strip()]
    if not boxes:
        return None if starts else _answer_in_prose(text[-MAX_ANSWER:])
    begin, start, end = boxes.pop()
    if any(opened > end for opened in starts):
        return None
    answer = text[start:end].strip()
    while boxes:
        earlier = boxes.pop()
        if earlier[0] >= begin:  # nested in the box above: its text is already there
            continue
        gap = text[earlier[2] + 1 : begin]
        if len(gap) > 40 or len(answer) > MAX_ANSWER or not _CONNECTOR.fullmatch(gap):
            break
        begin, content = earlier[0], text[earlier[1] : earlier[2]].strip()
        if content != answer:
            answer = f"{content}, {answer}"
    answer = re.sub(r"\\(?:boxed|fbox)\s*(?=\{)", "", answer)
    return answer if len(answer) <= MAX_ANSWER else None


def _answer_in_prose(text: str) -> str | None:
    stated = _ANSWER_IS.findall(text)
    sentence = re.split(r"[.;,!?]+(?:\s|$)", stated[-1].strip())[0] if stated else text
    formulas = ["".join(groups) for groups in _MATH.findall(sentence)]
    found = formulas or [number.rstrip(",") for number in _NUMBER.findall(sentence)]
    if not stated:
        found = found[-1:]
    elif not formulas and (len(found) != 1 or re.search(r"[a-z]\d|\d[a-z]|[-+*/^=\\(]", sentence)):
        found = [sentence]
    return ", ".join(found).strip(" *") or None


_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:displaystyle|left|right|[bB]igg?[lr]?)(?![A-Za-z])|\\!|\\limits|\*\*", ""),
        (r"\\?\$", " "),  # not nothing: 3$4 is not 34
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\{,\}", ","),
        (r"\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\q?quad|;", ","),
        (r"(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))", ","),
        (r"(?:(?<!\\)\\[,;: ]|~|\s)+", " "),
        (r"(?<=[\d)}])\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])|°)", ""),
        (r"\\varnothing|[∅Ø]|\\\{\s*\\\}", r"\\emptyset"),
        ("[\u2212\u2013]", "-"),
        ("\u00d7", r"\\times"),
        ("π", r"\\pi"),
        (r"^\s*\\?[A-Za-z]+\s*\\in(?![A-Za-z])", ""),
        (r"(?:,\s*)+", ","),
    )
]
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})")
_CHOICE = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*\(([A-J])\)\s*\}?\s*(.*)", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_UNITS = {
    alias: names.split()[0]
    for names in (
        "% percent",
        "mm millimeter millimeters",
        "cm centimeter centimeters centimetres",
        "m meter meters metre metres",
        "km kilometer kilometers kilometres",
        "ft foot feet",
        "inch inches",
        "mile miles",
        "g gram grams",
        "kg kilogram kilograms",
        "second seconds sec s",
        "minute minutes min",
        "hour hours hr h",
        "day days",
        "week weeks",
        "month months",
        "year years",
        "dollar dollars",
        "cent cents",
        "degree degrees",
    )
    for alias in names.split()
}
_UNIT = re.compile(
    r"(?P<value>.*[\d)}])\s*(?:\\?(?P<percent>%)|"
    r"\\(?:text|mathrm|mbox)\s*\{\s*(?P<text>[A-Za-z ./]{1,40}?)\s*\}|\s(?P<word>[a-z]+))"
    r"(?P<power>\s*\^\s*\{?[23]\}?)?",
    re.DOTALL,
)


def _normalise(latex: str) -> str:
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    latex = latex.strip().rstrip(".,").strip()
    if _THOUSANDS.fullmatch(latex):
        latex = latex.replace(",", "")
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", latex) if _SCIENTIFIC.fullmatch(latex) else latex


def _split_unit(latex: str) -> tuple[str, str]:
    match = _UNIT.fullmatch(latex)
    if not match:
        return latex, ""
    unit = match["percent"] or match["text"] or match["word"]
    words = unit.lower().split()
    if (match["word"] and unit not in _UNITS) or len(words) > 3 or {"not", "or", "and"} & set(words):
        return latex, ""
    value = match["value"].strip()
    return _normalise(value), _UNITS.get(unit.lower(), unit.lower()) + re.sub(r"[^23]", "", match["power"] or "")


def gold_text(gold: str) -> str | None:
    """Return the text of a gold, taken out of its box if it has one, or None if empty or too long."""
    gold = gold.strip()
    if "\\boxed" in gold or "\\fbox" in gold:
        return final_answer(gold)
    return gold if 0 < len(gold) <= MAX_ANSWER else None


def text_equal(gold: str, answer: str) -> bool:
    """Tell whether the two are the same string, normalised."""
    return _squeeze(answer) == _squeeze(gold)


def _squeeze(text: str) -> str:
    return re.sub(r" (?!\d)|(?<!\d) ", "", _TEXT.sub(r"\1", _normalise(text)))  # "3 4" is not 34


# -- what math-verify says of it --------------------------------------------------------------------------

_PLAIN = re.compile(
    r"(?:[A-Za-z0-9_.+\-*/^(){}\[\]!:=\s]|\\(?:frac|sqrt|cdot|times|div|binom|infty|exp|ln|log|pi|[a-z]*"
    r"(?:sin|cos|tan|cot|sec|csc)|alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|sigma|angle)(?![A-Za-z]))*"
)
_TWO_NUMBERS = re.compile(r"\d\s+[\d.]")  # math-verify reads "3 4" as 3 + 4


def _is_single_value(latex: str) -> bool:
    return bool(_PLAIN.fullmatch(latex)) and not _TWO_NUMBERS.search(latex)


def _bracket(latex: str) -> str:
    opening, closing = latex.replace("\\{", "<").replace("\\}", ">")[:1], latex[-1:]
    return opening + closing if opening and opening in "([<" and closing in ")]}" and "," in latex else ""


def math_equal(gold: str, answer: str) -> bool | None:
    """Judge by math-verify, after guards against lists of candidates; may run for ever.

    None if the gold is nothing that math-verify understands.
    """
    (gold, gold_unit), (answer, unit) = _split_gold(gold), _split_unit(_normalise(answer))
    if choice := _CHOICE.fullmatch(answer):
        label, rest = choice.groups()
        answer = label if not rest or (len(gold) == 1 and not re.search(r"\([A-J]\)", rest)) else rest
    if not (golds := _parse(gold)):
        return None
    word = _TEXT.sub(r"\1", gold).strip()
    if word != gold or (word.isalpha() and len(word) > 3):  # as a product of letters, dog would equal god
        return word.casefold() == _TEXT.sub(r"\1", answer).strip().casefold()
    if (
        (_is_single_value(gold) and not _is_single_value(answer))
        or (_bracket(gold) and _bracket(answer) and _bracket(gold) != _bracket(answer))
        or (gold_unit in _UNITS.values() and unit in _UNITS.values() and gold_unit != unit)
    ):
        return False
    if "=" not in gold and _is_single_value(gold):
        *chain, answer = (part.strip() for part in answer.split("="))
        numeric = [part for part in chain if not re.search("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", part))]
        if not all(_equal(_parse(part), _parse(answer)) for part in numeric):  # 3 = 4
            return False
    correct = _equal(golds, _parse(answer))
    if not correct and (gold_unit == "%") != (unit == "%"):  # 50 \% may be written as 0.5
        if gold_unit == "%":
            golds = _parse(rf"\frac{{{gold}}}{{100}}")
        else:
            answer = rf"\frac{{{answer}}}{{100}}"
        correct = _equal(golds, _parse(answer))
    return correct


def _split_gold(gold: str) -> tuple[str, str]:
    gold, unit = _split_unit(_normalise(gold))
    choice = _CHOICE.fullmatch(gold)
    return (choice[2] or choice[1]) if choice else gold, unit


def _parse(latex: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse  # type: ignore[import-untyped]

    # No plain-number extraction: of a box that does not parse it would pick out whatever number it finds.
    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    return list(parse(rf"\boxed{{{latex}}}", [config], fallback_mode="no_fallback", parsing_timeout=None))


def _equal(golds: list[Any], answers: list[Any]) -> bool:
    from math_verify import verify
    from sympy import Float, Number  # type: ignore[import-untyped]

    if not verify(golds, answers, timeout_seconds=None):
        return False
    # math-verify rounds floats to six decimals, so that 1e-7 equals 2e-7.
    pairs = [(g, a) for g in golds for a in answers if isinstance(g, Number) and isinstance(a, Number)]
    return all(
        abs(g - a) <= 1e-4 * max(abs(g), abs(a)) for g, a in pairs if isinstance(g, Float) or isinstance(a, Float)
    )


_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def gold_parses(gold: str) -> bool:
    """Tell whether `math_equal` understands a gold; at once for plain numbers, else by math-verify's parse.

    The parse runs in this process and without a deadline: golds come from data files, not from a model that
    is rewarded for what it writes, and no more than `MAX_CHECKED_GOLD` characters are parsed.
    """
    wanted = gold_text(gold)
    if wanted is None or len(wanted) > MAX_CHECKED_GOLD:
        return False
    if _PLAIN_NUMBER.fullmatch(wanted):
        return True
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that the parse has no deadline
    return bool(_parse(_split_gold(wanted)[0]))
