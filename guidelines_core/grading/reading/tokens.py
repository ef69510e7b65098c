r"""From LaTeX to tokens: layout is dropped, text and mathematics come out as one stream.

Layout is what changes an answer's look only: `\left`, `\,`, `\displaystyle`, `\color{red}`, `\mathbf`. Text is told
from mathematics by its command (`\text{cm}`) or, outside of one, by being a known function's name or a run of letters,
which the parser decides about.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from guidelines_core.grading.reading.spellings import (
    FUNCTIONS,
    IN_ASCII,
    LAYOUT,
    OTHER_NAMES,
    ROWS,
    SPACES,
    STRUCK,
    STYLES,
    TEXTS,
    WITH_ARGUMENT,
)


class Token(NamedTuple):
    r"""A token of an answer.

    Attributes:
        kind: `number`, `letter`, `upright` (a letter in text), `run` (two or more letters in mathematics), `word` (in
            text), `command`, `money`, `field` (of a number set), `vector` (a unit vector), `begin` and `end` of an
            environment, `row` and `quad` for what separates, or the character itself for anything else; `{` and `}`
            are LaTeX's grouping, `\{` and `\}` braces to be seen.
        text: what it says; a command without its backslash.
        spaced: whether a space stands before it.
    """

    kind: str
    text: str
    spaced: bool


class NotRead(Exception):
    """The text is nothing that the grader's own parser reads."""


MAX_TOKENS = 1500
STYLED = "{}"
"""The text of the brace around what a command such as \\mathbf or \\color styles."""

_TOKEN = re.compile(
    r"(?P<space>(?:\s|~|\\[ ,;:!>]|\\\s)+)|"
    r"(?P<number>\d+(?:\.\d+)?[eE][+-]?\d{1,3}(?![\w^.])|\d+(?:\.\d+)?|\.\d+)|"
    r"\\(?P<command>[A-Za-z]+\*?)|(?P<run>[A-Za-z]+)|"
    r"(?P<row>\\\\(?:\[[^\]]*\])?)|(?P<escaped>\\[{}$%&#_|'\"])|(?P<other>.)",
    re.DOTALL,
)
_GLUED_COMMA = re.compile(r"\{,\}|,\\!|\\!,")
_SURE_COMMA = re.compile(r"(?<=\d)(?:\{,\}|,\s*\\!\s*|\\!\s*,\s*)(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(
    r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:(?:\\[,;: ]|~|\s)\d{3})+|\d{1,3}(?:,\d{2})*,\d{3})(?![\d]|,\d)"
)
_IN_ARGUMENT = re.compile(r"(?:\\[A-Za-z]+\s*|\})\{[^{}]*$")
_WORD = re.compile(r"[ap]\.\s?m\.?|[^\W\d_]+(?:['-][^\W\d_]+)*", re.IGNORECASE)


def tokens_of(latex: str) -> list[Token]:
    """Return the tokens of an answer.

    Raises:
        NotRead: a brace that is never closed, a command without its argument, or too many tokens.
    """
    try:
        return _Tokenizer(join_thousands(latex)).run()
    except RecursionError:
        raise NotRead from None


def join_thousands(latex: str) -> str:
    """Return the text with 1,234,567 and its other spellings as 1234567, but for what stands in brackets."""
    if "," in latex:
        latex = _GLUED_COMMA.sub(",", _SURE_COMMA.sub("", latex))
    parts, end = [], 0
    for match in _THOUSANDS.finditer(latex):
        indian = "," in match[0] and "\\" not in match[0] and not re.fullmatch(r"\d{1,3}(?:,\d{3})+", match[0])
        if indian and not re.search(r",0\d", match[0]):
            continue  # as likely a list
        before = latex[: match.start()]
        inside = any(before.count(opening) > before.count(closing) for opening, closing in ("()", "[]", "{}"))
        if "," in match[0] and inside and not (_IN_ARGUMENT.search(before) or ",0" in match[0]):
            continue  # as likely a set, a point or an interval
        parts += [latex[end : match.start()], re.sub(r"\D", "", match[0])]
        end = match.end()
    return "".join([*parts, latex[end:]])


class _Tokenizer:
    def __init__(self, latex: str) -> None:
        self.latex = latex
        self.found: list[Token] = []
        self.spaced = False
        self.rows = 0  # how many environments are open whose rows are lines

    def run(self) -> list[Token]:
        self.mathematics(0, len(self.latex))
        return self.found

    def add(self, kind: str, text: str) -> None:
        if len(self.found) >= MAX_TOKENS:
            raise NotRead
        self.found.append(Token(kind, text, self.spaced))
        self.spaced = False

    def group(self, start: int) -> tuple[int, int]:
        """Return where the content of the group at `start` begins and ends: {…} or one token."""
        while self.latex[start : start + 1].isspace():
            start += 1
        if self.latex[start : start + 1] != "{":
            match = _TOKEN.match(self.latex, start)
            if not match:
                raise NotRead
            return start, match.end() if match["number"] is None and match["run"] is None else start + 1
        depth = 0
        for brace in re.finditer(r"\\.|[{}]", self.latex[start:], re.DOTALL):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                return start + 1, start + brace.start()
        raise NotRead

    @staticmethod
    def after(content: tuple[int, int], latex: str) -> int:
        return content[1] + (latex[content[1] : content[1] + 1] == "}" and latex[content[0] - 1 : content[0]] == "{")

    def mathematics(self, start: int, end: int) -> None:
        while start < end:
            match = _TOKEN.match(self.latex, start)
            assert match is not None
            if match.end() > end:
                raise NotRead
            start = match.end()
            if match["space"]:
                self.spaced = True
            elif match["number"]:
                self.add("number", match["number"])
            elif match["run"]:
                self.letters(match["run"])
            elif match["command"]:
                start = self.command(match["command"], start)
            elif match["row"]:
                self.spaced = True
                self.add("," if self.rows else "row", "\\\\")
            elif match["escaped"]:
                text = match["escaped"][1]
                kind = {"{": r"\{", "}": r"\}", "$": "money", "|": "||"}.get(text, text)
                self.add(kind, text) if kind not in "'\"" else None
            elif match["other"] == "$" or (
                match["other"] == "&" and (self.rows or self.latex[start : start + 10].lstrip().startswith("="))
            ):
                self.spaced = True
            elif match["other"] in "€£¥₹" or match["other"] == "\\":
                if match["other"] == "\\":
                    raise NotRead
                self.add("money", match["other"])
            elif match["other"] == "*" and self.latex[start : start + 1] == "*":
                start += 1
                self.add("^", "**")
            elif match["other"].isalpha():  # of another script: 5个
                run = re.compile(r"[^\W\d_a-zA-Z]+").match(self.latex, start - 1)
                self.add("word", run[0] if run else match["other"])
                start = run.end() if run else start
            else:
                self.add(match["other"], match["other"])

    def letters(self, run: str) -> None:
        if run in IN_ASCII:
            self.add("command", OTHER_NAMES.get(run, run))
        elif run in ("infinity", "inf", "oo"):
            self.add("command", "infty")
        elif run in ("or", "and"):
            self.add("word", run)
        elif run[:-1] in ("pi", "sqrt") and len(run) > 2:  # 2pix
            self.add("command", run[:-1])
            self.add("letter", run[-1])
        else:
            self.add("letter" if len(run) == 1 else "run", run)

    def command(self, name: str, start: int) -> int:
        if name in LAYOUT:
            if name in ("left", "right") and self.latex[start : start + 1] == ".":
                return start + 1
            return start
        if name in SPACES:
            self.spaced = True
            if name in ("quad", "qquad", "newline") and self.found:
                self.add("quad", name)
            return start
        if name == "textcolor" or name in WITH_ARGUMENT:
            after = self.after(self.group(start), self.latex)
            if name in ("fcolorbox", "rule"):
                after = self.after(self.group(after), self.latex)
            if "color" in name and self.latex[after : after + 1] == "{":
                content = self.group(after)
                self.grouped(content)
                return self.after(content, self.latex)
            return after
        if name in ("begin", "end"):
            content = self.group(start)
            environment = self.latex[slice(*content)]
            start = self.after(content, self.latex)
            if environment in ROWS:
                self.rows += 1 if name == "begin" else -1
                return start
            if environment == "array" and name == "begin" and self.latex[start : start + 1] == "{":
                start = self.after(self.group(start), self.latex)
            self.add(name, environment)
            return start
        if name in STYLES:
            content = self.group(start)
            inner = self.latex[slice(*content)].strip()
            if inner in "ijk" and inner and name in ("mathbf", "boldsymbol", "bm"):
                self.add("vector", inner)
            elif re.fullmatch(r"[A-Za-z]{2,}", inner) and name in ("mathbf", "mathit", "mathsf"):
                self.text(*content)
            elif name in ("mathbb", "mathcal", "mathscr", "mathfrak"):
                self.add("letter", inner)
            else:
                self.grouped(content)
            return self.after(content, self.latex)
        if name in STRUCK:
            raise NotRead
        if name == "mathbb" or name == "Bbb":
            content = self.group(start)
            self.add("field", self.latex[slice(*content)].strip())
            return self.after(content, self.latex)
        if name in TEXTS:
            content = self.group(start)
            if self.latex[content[0] - 1 : content[0]] != "{":
                return start  # \rm without braces
            script = bool(self.found) and self.found[-1].kind in "^_"
            if script:
                self.add("{", "{")
            self.text(*content)
            if script:
                self.add("}", "}")
            return self.after(content, self.latex)
        self.add("command", OTHER_NAMES.get(name, name))
        return start

    def grouped(self, content: tuple[int, int]) -> None:
        self.add("{", STYLED)
        self.mathematics(*content)
        self.add("}", "}")

    def text(self, start: int, end: int) -> None:
        """Add the tokens of text: words, and the mathematics among them."""
        inner = self.latex[start:end].strip()
        after_number = bool(self.found) and self.found[-1].kind in ("number", "}", "/")
        if (
            (inner in FUNCTIONS and not (inner == "sec" and after_number))
            or inner in OTHER_NAMES
            or (inner in ("gcd", "lcm", "max", "min") and not after_number)
        ):
            self.add("command", OTHER_NAMES.get(inner, inner))
            return
        while start < end:
            word = _WORD.match(self.latex, start, end)
            if word:
                self.add("upright" if len(word[0]) == 1 and word[0].isascii() else "word", word[0])
                start = word.end()
                continue
            match = _TOKEN.match(self.latex, start)
            assert match is not None
            if match["space"]:
                self.spaced = True
                start = match.end()
            elif match["other"] in ('"', "`", "'", "!", "?") and match["other"]:
                start = match.end()
            elif match["other"] == "{":
                content = self.group(start)
                self.text(*content)
                start = self.after(content, self.latex)
            elif match["command"]:
                start = self.command(match["command"], match.end())
            else:
                self.mathematics(start, match.end())
                start = match.end()
        self.spaced = self.spaced or self.latex[end - 1 : end].isspace()
