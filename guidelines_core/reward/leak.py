r"""Whether a guideline contains the gold answer, which the solver could copy. Takes linear time on capped texts.

These are no leaks: a number that the question contains, the number of a step, and a common number that is part of a
method ("divide by 2", "there are 60 minutes"). A gold below 100, or like 1/2, counts only in the position of a result.
What is stated as the answer is always a leak. Answers in words, in pieces, or in another form than the gold's are not
found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from guidelines_core.grading.equality import number_of, quick_equal
from guidelines_core.grading.exact import normalise, squeeze
from guidelines_core.grading.extract import final_answer, gold_text

POLICIES = ("flag", "zero")
"""The reward of a guideline that leaks: `flag` keeps it, `zero` sets it to 0."""

MAX_SEARCHED = 32_000  # characters of a guideline or question

_STEP = re.compile(
    r"^[ \t>*#-]*(?:step\s*)?\(?\d{1,2}[.):](?!\d)|\b(?:step|part|case|method|phase)\s+\d{1,2}\b", re.I | re.M
)
_STATED = re.compile(r"\\(?:boxed|fbox)\s*\{|\banswer\b[^.\n]{0,40}?(?:\bis\b|:|=)", re.IGNORECASE)
_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{[\s.]*\}")
_NUMBER = re.compile(
    r"(?<![\w.^_])(?:(?<![)}])-)?(?:\\[dt]?frac\{(-?\d{1,30})\}\{(\d{1,30})\}|"
    r"(\d{1,30}(?:,\d{3}){0,9}(?:\.\d{1,30})?)(?:/(\d{1,30}))?)(?![\w^_]|\.\d|,\d{3})"
)
_BEFORE_RESULT = re.compile(
    r"(?:=|\\approx|≈|:|->|→|\\to|\\Rightarrow|\\implies|\b(?:is|are|be|was|equals?|gives?|gets?|obtains?|yields?|makes|"
    r"leaves|becomes|reach(?:es)?|finds?|results? in|comes? to|total(?:s|ling)?))"
    r"\s*(?:only|just|exactly|simply|about|approximately)?[\s$*(\\]*"
    r"(?:\\text\{)?\$?$",
    re.IGNORECASE,
)
_AFTER_RESULT = re.compile(
    r"[\s$*)]*(?:is|as)\s+(?:the|your|our)\s+(?:\w+\s+){0,2}(?:answer|result|total|solution|value|number)\b",
    re.IGNORECASE,
)
_OPERAND = re.compile(
    r"[\s$)]*(?:[*/^\u00d7\u00b7]|\\cdot|\\times|\\div|[+\-\u2212]\s*[\d\w\\(])|[ \t]*%?\s+(?:by|times)\b"
)


def leaks(question: str, guideline: str, gold: str) -> bool:
    """Return whether the guideline contains the gold answer and the question does not."""
    wanted = gold_text(gold)
    if wanted is None:
        return False
    guideline, question = _EMPTY_BOX.sub(" ", guideline[:MAX_SEARCHED]), question[:MAX_SEARCHED]
    stated = final_answer(guideline) if _STATED.search(guideline) else None
    if stated is not None and (squeeze(stated) == squeeze(wanted) or quick_equal(wanted, stated)):
        return True
    steps_left_out = _STEP.sub(" ", guideline)
    value = number_of(wanted)
    if value is not None:
        return _number_leaks(question, steps_left_out, value)
    return _text_leaks(question, steps_left_out, wanted)


def _number_leaks(question: str, guideline: str, value: Fraction) -> bool:
    if any(found == value for _, found in _numbers(question)):
        return False
    common = (value.denominator <= 5 and abs(value) < 100) or abs(value) in (100, 180, 360, 1000)
    return any(found == value and (not common or _is_result(guideline, match)) for match, found in _numbers(guideline))


def _numbers(text: str) -> Iterator[tuple[re.Match[str], Fraction]]:
    for match in _NUMBER.finditer(text):
        top, bottom, number, divisor = match.groups()
        denominator = int(bottom or divisor or 1)
        if denominator:
            value = Fraction(number.replace(",", "")) if number else Fraction(int(top))
            yield match, (-value if match[0].startswith("-") else value) / denominator


def _is_result(text: str, match: re.Match[str]) -> bool:
    if _AFTER_RESULT.match(text, match.end()):
        return True
    return bool(_BEFORE_RESULT.search(text[max(0, match.start() - 40) : match.start()])) and not _OPERAND.match(
        text, match.end()
    )


def _text_leaks(question: str, guideline: str, gold: str) -> bool:
    wanted = squeeze(gold).casefold()
    if len(wanted) < 3 or wanted in ("yes", "no", "true", "false", "even", "odd", "none"):
        return False  # too common to decide; the stated answer was checked above
    spaced = r"\s*".join(re.escape(token) for token in re.findall(r"\\[a-z]+|\w+|\S", wanted))
    standing_alone = re.compile(rf"(?<![\w\\^_]){spaced}(?![\w^_])")
    in_guideline, in_question = (standing_alone.search(normalise(text).casefold()) for text in (guideline, question))
    return in_guideline is not None and in_question is None
