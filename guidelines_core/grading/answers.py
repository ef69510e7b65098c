r"""A solution's final answer, and whether it is the gold's text; all of it in linear, capped time."""

from __future__ import annotations

import re

MAX_SOLUTION = 32_000  # characters from the end that are searched for the answer: at most some 10 ms
MAX_ANSWER = 2_000  # characters; longer is no final answer

# -- what the answer is -----------------------------------------------------------------------------------

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_CONNECTOR = re.compile(r"(?:[\s$.,;&()\[\]}]|\\[()\[\],;]|\\q?quad|\\text\s*\{|\b(?:and|or)\b)*")
_ANSWER_IS = re.compile(r"\banswer\b[^.\n]{0,40}?(?:\bis\b|:|=)[\s*:]*(?=\S)", re.IGNORECASE)
# As in pandoc, a dollar sign before a space or after one, or before a digit and unpaired, is money.
_MATH = re.compile(r"\$\$([^$]+)\$\$|\$(?!\s)([^$\n]*[^$\s])\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\s*\\?%)?")
_MARKED = re.compile(r"^\s*####[ \t]*(?=\S)", re.MULTILINE)  # GSM8K's


def final_answer(solution: str) -> str | None:
    r"""Return the text of the solution's final answer, or None.

    The last closed `\boxed{}` that is not empty, joined with commas to boxes right before it that differ (a
    list of candidates stays a list). None for a box that is never closed or too long. Without any box: what
    follows GSM8K's `####` or "the answer is", else the last formula or number.
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
    stated = [match.end() for match in _MARKED.finditer(text)] or [match.end() for match in _ANSWER_IS.finditer(text)]
    sentence = re.split(r"[.;,!?]+(?:\s|$)|\n", text[stated[-1] :].strip())[0] if stated else text
    formulas = ["".join(groups) for groups in _MATH.findall(sentence)]
    found = formulas or [number.rstrip(",") for number in _NUMBER.findall(sentence)]
    if not stated:
        found = found[-1:]
    elif re.search(r"\bnot\b", sentence) or (
        not formulas and (len(found) != 1 or re.search(r"[a-z]\d|\d[a-z]|[-+*/^=\\(]", sentence))
    ):
        found = [sentence]
    return ", ".join(found).strip(" *") or None


_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r",\\!(?=\d{3})|\\phantom\s*(?:\{[^{}]*\}|.)", ""),
        (r"\\(?:displaystyle|left|right|[bB]igg?[lr]?)(?![A-Za-z])|\\!|\\limits|\*\*", ""),
        (r"\\(?:text|mathrm)\s*\{\s*\\?\$?\s*\}|\\?\$", " "),  # not nothing: 3$4 is not 34
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
        ("∞", r"\\infty"),
        ("≤", r"\\le "),
        ("≥", r"\\ge "),
        ("√", r"\\sqrt"),
        (r"^\s*\\?[A-Za-z]+\s*\\in(?![A-Za-z])", ""),
        (r"(?:,\s*)+", ","),
    )
]
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_DELIMITED = re.compile(r"\$\$?([^$]+)(?<!\\)\$\$?|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL)


def unwrap(latex: str) -> str:
    r"""Return a formula without the delimiters around it: `$x$`, `\(x\)`."""
    match = _DELIMITED.fullmatch(latex.strip())
    return next(part for part in match.groups() if part) if match else latex


def normalise(latex: str) -> str:
    """Return one spelling for what LaTeX spells in many ways; linear in the length."""
    latex = unwrap(latex)
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    latex = latex.strip().rstrip(".,").strip()
    if _THOUSANDS.fullmatch(latex):
        latex = latex.replace(",", "").replace(" ", "")
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", latex) if _SCIENTIFIC.fullmatch(latex) else latex


def gold_text(gold: str) -> str | None:
    """Return the text of a gold, taken out of its box if it has one, or None if empty or too long."""
    gold = gold.strip()
    if "\\boxed" in gold or "\\fbox" in gold:
        return final_answer(gold)
    return gold if 0 < len(gold) <= MAX_ANSWER else None


def text_equal(gold: str, answer: str) -> bool:
    """Tell whether the two are the same string, normalised."""
    return squeeze(answer) == squeeze(gold)


def squeeze(text: str) -> str:
    """Return the normalised text without text commands and without the spaces that mean nothing."""
    return re.sub(r" (?!\d)|(?<!\d) ", "", _TEXT.sub(r"\1", normalise(text)))  # "3 4" is not 34
