r"""The tokens of an answer, where its brackets are closed, and how far they are read."""

from __future__ import annotations

import re

from guidelines_core.grading.reading.tokens import NotRead, Token
from guidelines_core.grading.reading.vocabulary import CLOSES, ENDS


class Cursor:
    """Reads `tokens[at:end]`.

    Attributes:
        pairs: where each bracket that opens is closed.
        depth: how deep the reader is in brackets and sums; `vocabulary.MAX_DEPTH` at most.
        in_bars: how many `|` are open.
        in_arguments: how many arguments of commands are being read, where a letter behind a number is no unit.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at, self.end = 0, len(tokens)
        self.depth = 0
        self.in_bars = 0
        self.in_arguments = 0
        self.pairs = self.matched()

    def matched(self) -> dict[int, int]:
        """Return where each bracket that opens is closed; `]1,3[` is an interval."""
        stack: list[tuple[int, str]] = []
        pairs: dict[int, int] = {}
        commas: list[bool] = []
        for index, token in enumerate(self.tokens):
            kind, text = token.kind, token.text
            if kind == "command" and text in ENDS:
                stack.append((index, ENDS[text]))
                commas.append(False)
            elif kind == "begin":
                stack.append((index, "end " + text))
                commas.append(False)
            elif kind in ("(", "{", r"\{") or (
                kind == "[" and not (stack and stack[-1][1] in ("[", ")]") and commas[-1])
            ):
                stack.append((index, CLOSES[kind]))
                commas.append(False)
            elif kind == "[" and stack:
                pairs[stack.pop()[0]] = index
                commas.pop()
            elif kind in (")", "]", "}", r"\}") or (kind == "command" and text in ENDS.values()) or kind == "end":
                if kind == "]" and not (stack and "]" in stack[-1][1]) and not (stack and stack[-1][1] == "["):
                    stack.append((index, "["))
                    commas.append(False)
                    continue
                closing = "end " + text if kind == "end" else text if kind == "command" else kind
                if not stack or (closing not in stack[-1][1] and not (stack[-1][1] == "[" and kind == "]")):
                    raise NotRead
                pairs[stack.pop()[0]] = index
                commas.pop()
            elif kind in (",", ";") and commas:
                commas[-1] = True
        if stack:
            raise NotRead
        return pairs

    def outside(self, start: int, end: int) -> list[int]:
        """Return the positions in a range that stand in no bracket of that range."""
        found, index = [], start
        while index < end:
            if index in self.pairs:
                index = self.pairs[index] + 1
                continue
            found.append(index)
            index += 1
        return found

    def peek(self, offset: int = 0) -> Token:
        """Return the token that comes next, or one after it; one of no kind at the end."""
        index = self.at + offset
        return self.tokens[index] if index < self.end else Token("", "", False)

    def take(self) -> Token:
        """Return the next token and go on."""
        token = self.peek()
        if not token.kind:
            raise NotRead
        self.at += 1
        return token

    def is_command(self, *names: str) -> bool:
        """Tell whether the next token is one of these commands."""
        token = self.peek()
        return token.kind == "command" and token.text in names

    def spelled(self, start: int, end: int) -> str:
        """Return the text of a range."""
        words = [(" " if token.spaced else "") + token.text for token in self.tokens[start:end]]
        return re.sub(r"\s+", " ", "".join(words)).strip()
