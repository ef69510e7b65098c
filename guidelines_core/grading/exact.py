r"""Exact match: one spelling for what LaTeX spells in many ways, and whether two answers are then the same text."""

from __future__ import annotations

import re

from guidelines_core.grading.reading.tokens import join_thousands

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\phantom\s*(?:\{[^{}]*\}|.)", ""),
        (r"\\(?:displaystyle|left|right|[bB]igg?[lr]?)(?![A-Za-z])|\\!|\\limits|^\s*\*\*|\*\*\s*$", ""),
        (r"\\(?:text|mathrm)\s*\{\s*\\?\$?\s*\}|\\?\$", " "),  # not nothing: 3$4 is not 34
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\q?quad|;", ","),
        (r"(?:(?<!\\)\\[,;: ]|~|\s)+", " "),
        (r"(?<=[\d)}])\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])|°)", ""),
        (r"\\varnothing|[∅Ø]|\\\{\s*\\\}", r"\\emptyset"),
        ("[\u2212\u2013]", "-"),
        ("\u00d7", r"\\times"),
        ("π", r"\\pi"),
        ("∞", r"\\infty"),
        ("≤", r"\\le "),
        ("≥", r"\\ge "),
        ("√", r"\\sqrt"),
        (r"^\s*\\?[A-Za-z]+\s*\\in(?![A-Za-z])", ""),
        (r"(?:\s*,\s*)+", ", "),
    )
]
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_DELIMITED = re.compile(r"\$\$?([^$]+)(?<!\\)\$\$?|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL)


def unwrap(latex: str) -> str:
    r"""Return a formula without the delimiters around it: `$x$`, `\(x\)`."""
    match = _DELIMITED.fullmatch(latex.strip())
    return next(part for part in match.groups() if part) if match else latex


def normalise(latex: str) -> str:
    """Return one spelling for what LaTeX spells in many ways; linear in the length."""
    latex = join_thousands(unwrap(latex))
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    latex = latex.strip().rstrip(".,").strip()
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", latex) if _SCIENTIFIC.fullmatch(latex) else latex


def text_equal(gold: str, answer: str) -> bool:
    """Tell whether the two are the same string, normalised."""
    return squeeze(answer) == squeeze(gold)


def squeeze(text: str) -> str:
    """Return the normalised text without text commands and without the spaces that mean nothing."""
    return re.sub(r" (?!\d)|(?<!\d) ", "", _TEXT.sub(r"\1", normalise(text)))  # "3 4" is not 34
