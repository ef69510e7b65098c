r"""What kind of answer a gold is: integer, fraction, percent, text and so on, by the look of its LaTeX."""

from __future__ import annotations

import re
from functools import lru_cache

from guidelines_core.grading.answers import gold_text
from guidelines_core.grading.forms import brackets, number_in, parts_of, split_outside_brackets
from guidelines_core.grading.units import PERCENT

_RELATION = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|lt|gt|leqslant|geqslant|approx|equiv)(?![A-Za-z])")
_WORDS = re.compile(r"(?:[^\W\d_]|[\s.,'()-])*[^\W\d_]{2}(?:[^\W\d_]|[\s.,'()-])*")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}]*)\}")


@lru_cache(maxsize=100_000)
def answer_kind(gold: str) -> str:
    """Return the kind of a gold answer, in words."""
    text = gold_text(gold)
    if text is None:
        return "not readable"
    parts = parts_of(text)
    if parts.unit is not None:
        return "percent" if parts.unit.dimensions == PERCENT.dimensions else "number with a unit"
    if parts.label and parts.value == parts.label:
        return "letter of a choice"
    value = number_in(parts.value)
    if value is not None:
        if "." in parts.value:
            return "decimal"
        return "integer" if "/" not in parts.value and "frac" not in parts.value else "fraction"
    if re.fullmatch(r"-?\d+\s*\\frac\{?\d+\}?\s*\{?\d+\}?", parts.value):
        return "mixed number"
    if brackets(parts.value) or re.search(r"\\cup(?![A-Za-z])", parts.value):
        return "tuple, interval or set"
    if "matrix" in parts.value or "array" in parts.value:
        return "matrix"
    if _WORDS.fullmatch(_TEXT.sub(r"\1", parts.value)):
        return "text"
    if len(split_outside_brackets(parts.value, ",")) > 1 or r"\pm" in parts.value:
        return "several values"
    return "equation or inequality" if _RELATION.search(parts.value) else "expression"
