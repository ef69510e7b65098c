"""Turns rows of public data sets into problems with one gold, or the reason why a row cannot be used."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from guidelines_core.digests import text_sha256

MAX_CHARACTERS = 20_000
"""A question or gold longer than this is dropped as `too_long`."""

MAX_GOLD_WORDS = 4
"""A gold with more words (of two letters or more, LaTeX commands not counted) is dropped as `prose`."""

MISSING = frozenset({"nan", "-nan", "none", "null", "n/a", "na", "<na>", "#n/a", "#na"})
"""Texts, in lower case, that stand for a missing value, as in `pandas.read_csv`."""

FIELDS = (
    "problem", "question", "answer", "solution", "source",
    "question_type", "problem_is_valid", "solution_is_valid", "pass_rate", "baseline",
)  # fmt: skip
"""The columns that `parse_row` reads."""


class DatasetError(ValueError):
    """A source or an argument that cannot be used; the message names the remedy."""


class Drop(str, Enum):
    """The reason why a row is not used; the value is the manifest's key."""

    MALFORMED_JSON = "malformed_json"
    INVALID_UTF8 = "invalid_utf8"
    NULL_BYTES = "null_bytes"
    MISSING_FIELD = "missing_field"
    EMPTY_FIELD = "empty_field"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    NO_BOXED_ANSWER = "no_boxed_answer"
    MARKED_INVALID = "marked_invalid"
    PROOF = "proof"
    MULTIPLE_CHOICE = "multiple_choice"
    MULTI_PART = "multi_part"
    PROSE = "prose"
    GOLD_UNPARSEABLE = "gold_unparseable"
    DUPLICATE = "duplicate"
    CONFLICTING_GOLDS = "conflicting_golds"
    IN_BENCHMARK = "in_benchmark"
    OUTSIDE_PASS_RATE = "outside_pass_rate"


class Problem(NamedTuple):
    """A question, its one gold answer and the collection it comes from.

    Attributes:
        question: the problem's text.
        gold: its answer.
        source: the collection.
        pass_rate: share of the solver's solutions without a guideline that is right; NaN where it was not measured.
        baseline: the same share of other solutions, not used by `guidelines.data.pass_rate`.
    """

    question: str
    gold: str
    source: str
    pass_rate: float = math.nan
    baseline: float = math.nan

    @property
    def problem_id(self) -> str:
        """16 hex digits that stay the same when only white space, letter case or Unicode form differ."""
        text = " ".join(unicodedata.normalize("NFC", self.question).casefold().split())
        return text_sha256(text)[:16]


class _Unusable(Exception):
    def __init__(self, reason: Drop) -> None:
        super().__init__(reason.value)
        self.reason = reason


def parse_row(row: object, default_source: str) -> Problem | Drop:
    """Return the row's problem, or why it has none.

    Rows have `problem` or `question` with `answer` (also GSM8K's `#### 18`), or, as in NuminaMath-CoT, `problem` with
    `solution`, whose gold is the last `\\boxed{}`. The latter have no field for the kind of question, so proofs and
    questions with several parts are recognized by their wording.
    """
    try:
        if not isinstance(row, Mapping):
            raise _Unusable(Drop.WRONG_TYPE)
        question = _text(row, "question" if is_missing(row.get("problem")) else "problem")
        source = default_source if is_missing(row.get("source")) else _text(row, "source")
        for key in ("problem_is_valid", "solution_is_valid"):
            if not is_missing(row.get(key)) and str(row[key]).casefold() not in ("yes", "true"):
                raise _Unusable(Drop.MARKED_INVALID)
        if row.get("question_type") == "proof":
            raise _Unusable(Drop.PROOF)
        gold = _gold_of_solution(row, question) if is_missing(row.get("answer")) else _gold_of_answer(row)
        _check_gold(gold, question)
        return Problem(question, gold, source, _rate(row, "pass_rate"), _rate(row, "baseline"))
    except _Unusable as unusable:
        return unusable.reason


def _rate(row: Mapping[str, object], key: str) -> float:
    """Return a share of right solutions, NaN if the row has none."""
    value = row.get(key)
    if is_missing(value):
        return math.nan
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _Unusable(Drop.WRONG_TYPE)
    return float(value)


def is_missing(value: object) -> bool:
    """Return whether a field has no value: null, NaN, or a text that stands for a missing value."""
    if isinstance(value, (float, Decimal)):
        return value != value
    return value is None or (isinstance(value, str) and value.strip().casefold() in MISSING)


def question_of(row: object) -> str | None:
    """Return a row's question, None if it has none."""
    if not isinstance(row, Mapping):
        return None
    try:
        return _text(row, "question" if is_missing(row.get("problem")) else "problem")
    except _Unusable:
        return None


def source_of(row: object, default_source: str) -> str:
    """Return the collection that a row names, else `default_source`."""
    said = row.get("source") if isinstance(row, Mapping) else None
    return said if isinstance(said, str) and 0 < len(said) <= 64 and said.isprintable() else default_source


_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TOKEN = re.compile(r"\\[A-Za-z]+|[^\s$\\]")


def boxed_answers(solution: str) -> list[str]:
    """Return the contents of every outermost `\\boxed{}` or `\\fbox{}`, in order.

    Empty if a box is not closed: the solution is truncated, and an earlier box is not its answer.
    """
    answers: list[str] = []
    end = 0
    for box in _BOX.finditer(solution):
        if box.start() < end:
            continue
        if solution[box.end() : box.end() + 1] != "{":
            token = _TOKEN.match(solution, box.end())
            answers.append(token.group() if token else "")
            continue
        depth = 0
        for brace in _BRACE.finditer(solution, box.end()):
            depth += {"{": 1, "}": -1}.get(brace.group(), 0)
            if depth == 0:
                end = brace.end()
                answers.append(solution[box.end() + 1 : end - 1].strip())
                break
        else:
            return []
    return answers


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if is_missing(value):
        raise _Unusable(Drop.MISSING_FIELD)
    if key == "answer" and isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        value = _number_text(value)
    if not isinstance(value, str):
        raise _Unusable(Drop.WRONG_TYPE)
    if not value.strip():
        raise _Unusable(Drop.EMPTY_FIELD)
    if len(value) > MAX_CHARACTERS and key != "solution":
        raise _Unusable(Drop.TOO_LONG)
    if "\0" in value:
        raise _Unusable(Drop.NULL_BYTES)
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can write as \ud800
        raise _Unusable(Drop.INVALID_UTF8) from None
    return value.strip()


def _number_text(value: int | float | Decimal) -> str:
    """Return a number as a person writes it: 65 for the 65.0 of a column of floats."""
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _gold_of_answer(row: Mapping[str, object]) -> str:
    answer = _text(row, "answer")
    _, mark, last = answer.rpartition("####")
    gold = last.strip().replace(",", "") if mark else answer
    if not gold:
        raise _Unusable(Drop.EMPTY_FIELD)
    return gold


_PROOF_WORDS = re.compile(r"\bprove\b|\b(?:proof|show)(?: \w+){0,2} (?:that|it)\b|证明", re.IGNORECASE)

# The label of a part: (1) anywhere, 1) at the beginning of a line or sentence, 1. at the beginning of a line
_PART = r"(?:(?<![\w)\\}}])\({0}\)|(?:^|[.;:?!]\s)[^\w\n]{{0,6}}{0}\s?\.?\)|\{{{0}\)|^[^\w\n]{{0,6}}{0}\.\s)"
_PARTS = [
    [re.compile(_PART.format(label), re.MULTILINE) for label in labels]
    for labels in (("1", "2"), ("a", "b"), ("i", "ii"), ("I", "II"), ("\u2160", "\u2161"))
]
# The label of an option: (A), A) or A.
_OPTIONS = [re.compile(rf"(?<![A-Za-z])(?:\({letter}\)|{letter}\s?[).:}}])") for letter in "ABC"]


def _in_order(patterns: Iterable[re.Pattern[str]], text: str) -> bool:
    """Return whether the patterns match in order; one joined pattern takes cubic time."""
    end = 0
    for pattern in patterns:
        found = pattern.search(text, end)
        if found is None:
            return False
        end = found.end()
    return True


def _gold_of_solution(row: Mapping[str, object], question: str) -> str:
    if row.get("solution") is None:
        raise _Unusable(Drop.MISSING_FIELD)
    solution = _text(row, "solution")
    if _PROOF_WORDS.search(question):
        raise _Unusable(Drop.PROOF)
    answers = boxed_answers(solution)
    if not answers or not answers[-1]:
        raise _Unusable(Drop.NO_BOXED_ANSWER)
    different = {re.sub(r"\s", "", answer) for answer in answers}
    if len(different) > 1 or any(_in_order(labels, question) for labels in _PARTS):
        raise _Unusable(Drop.MULTI_PART)
    return answers[-1]


_CHOICE = re.compile(r"\(?[A-F](?:(?:,|and|\s)*[A-F])*\)?[.,:]?")
_LABELLED = re.compile(r"\([A-F]\)\s*\S|[A-F][).:]\s*\S")
_GOLD_PARTS = re.compile(r"\(?(1|a|i)\).*[\s,;.]\(?(2|b|ii)\)", re.DOTALL | re.IGNORECASE)


def _check_gold(gold: str, question: str) -> None:
    """Raise `_Unusable` for a gold that is not a single answer, or needs more than the question."""
    if len(gold) > MAX_CHARACTERS:
        raise _Unusable(Drop.TOO_LONG)
    plain = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\b|\\(?:quad|qquad)\b|\\[ ,;:!]|[{}$]", " ", gold).strip()
    if plain.casefold() in ("proof", "notfound", "not found"):
        raise _Unusable(Drop.PROOF)
    if _CHOICE.fullmatch(plain.replace(" ", "")):
        if not _in_order(_OPTIONS, question):  # a letter needs the options
            raise _Unusable(Drop.MULTIPLE_CHOICE)
    elif _LABELLED.match(plain):
        raise _Unusable(Drop.MULTIPLE_CHOICE)
    if _GOLD_PARTS.match(plain):
        raise _Unusable(Drop.MULTI_PART)
    if len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", plain)) > MAX_GOLD_WORDS:
        raise _Unusable(Drop.PROSE)
