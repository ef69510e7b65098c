r"""Multiple choice: `B`, `(B)`, `\text{(B) 12}`, `Option B`, `A, C`."""

from __future__ import annotations

import re
from typing import NamedTuple

_WRAPPERS = re.compile(
    r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathsf|boldsymbol|bm|mbox|bf|rm|operatorname)\s*\{([^{}]*)\}"
)
_SPACES = re.compile(r"(?:\\[ ,;:!]|\\q?quad|~|\s)+")
_NAMED = re.compile(r"(?:the\s+)?(?:correct\s+)?(?:answer|choice|option)s?\s*(?:is|:)?\s*(?=\(?[A-J]\b)", re.IGNORECASE)
_LABEL = re.compile(r"(?:\(\s*([A-J])\s*\)|([A-J])(?:\s*[.)](?!\d)|:(?=\s|$))|([A-J])$)\s*(.*)", re.DOTALL)
_GOES_ON = re.compile(  # no text of an option
    r"[+*/^_=<>,;&|]|\\(?:cup|cap|pm|cdot|times|le|ge|ne|lt|gt|in)|(?:and|or|nor|not|but)\b", re.IGNORECASE
)
_MARK = "[A-J\u2460-\u2468]"  # a letter, or a number in a circle
_LETTERS = re.compile(rf"\(?{_MARK}\)?(?:(?:\s|,|;|&|\\&|\u3001|\band\b|\(|\))*{_MARK}\)?)+")
ANY_LABEL = re.compile(r"\(\s*[A-J]\s*\)|(?<![A-Za-z\\])[A-J]\s*[.)](?!\d)")


class Choice(NamedTuple):
    """The letter of a choice and what stands behind it."""

    label: str
    rest: str


def choice_in(latex: str) -> Choice | None:
    """Return the letter that an answer names, and the option's text if it is there; None for no choice."""
    if not re.search(r"[A-J]", latex[:80]):
        return None
    text = _flat(latex)
    named = _NAMED.match(text)
    match = _LABEL.fullmatch(text[named.end() :] if named else text)
    if not match:
        return None
    *labels, rest = match.groups()
    if _GOES_ON.match(rest):
        return None
    return Choice(next(label for label in labels if label), rest.strip())


def letters_in(latex: str) -> frozenset[str] | None:
    """Return the letters of several choices in their order, AC or "A and C"; None for anything else."""
    text = _flat(latex)
    if not _LETTERS.fullmatch(text):
        return None
    letters = re.findall(_MARK, text)
    return frozenset(letters) if len(set(letters)) == len(letters) > 1 else None


def in_order(latex: str) -> bool:
    """Tell whether the letters rise, as the letters of several choices do in a gold."""
    letters = re.findall(_MARK, _flat(latex))
    return letters == sorted(letters)


_STYLE = re.compile(r"\\(?:boldsymbol|mathbf|textbf|text|bm)\s*(?=\{)")
_LAYOUT = re.compile(r"\\(?:textcolor|color)\s*\{[^{}]*\}|\\(?:displaystyle|textstyle|left|right)(?![A-Za-z])|\$")


def _flat(latex: str) -> str:
    """Return the text without text commands, layout and braces around all of it."""
    latex = _LAYOUT.sub("", latex)
    for _ in range(3):
        flat = _WRAPPERS.sub(r"\1", latex)
        if flat == latex:
            break
        latex = flat
    text = _SPACES.sub(" ", latex).strip(" .*")
    if (style := _STYLE.match(text)) and _closes_last(text[style.end() :]):
        text = text[style.end() :]
    while text.startswith("{") and text.endswith("}") and _closes_last(text):
        text = text[1:-1].strip(" .*")
    return text


def _closes_last(text: str) -> bool:
    """Tell whether the brace at the beginning is closed by the one at the end."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return index == len(text) - 1
    return False
