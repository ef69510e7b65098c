"""Finds problems that are also in a benchmark, by the sequences of words that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from guidelines_core.data.problems import DatasetError, question_of
from guidelines_core.data.rows import read_rows

WORDS = 13
"""Words in a row that two problems must share, as in GPT-3's decontamination (2005.14165, appendix C)."""

_WORD = re.compile(r"[^\W_]+")
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|$)", re.DOTALL)  # drawings share code


class Benchmarks:
    """The problems of benchmarks, which are left out of training.

    A problem overlaps if it shares `WORDS` consecutive words with one of them, without letter case, punctuation, LaTeX
    and drawings. A benchmark's problem with fewer words must be equal.
    """

    def __init__(self, questions: Iterable[str]) -> None:
        self._runs: set[int] = set()
        for question in questions:
            self._runs.update(_runs(question))

    @classmethod
    def of_files(cls, files: Iterable[Path]) -> Benchmarks:
        """Read files with `problem` or `question`.

        Raises:
            DatasetError: a file holds no such row.
        """
        questions: list[str] = []
        for file in files:
            found = [question for row in read_rows(file) if (question := question_of(row)) is not None]
            if not found:
                raise DatasetError(f"exclude {file} holds no row with 'problem' or 'question': name a benchmark's file")
            questions += found
        return cls(questions)

    def overlap(self, question: str) -> bool:
        """Return whether `question` overlaps with a benchmark's problem."""
        return bool(self._runs) and any(run in self._runs for run in _runs(question))


def _runs(question: str) -> Iterator[int]:
    words = _WORD.findall(_DRAWING.sub(" ", question.casefold()))
    if 0 < len(words) < WORDS:
        yield hash(tuple(words))
    for start in range(len(words) - WORDS + 1):
        yield hash(tuple(words[start : start + WORDS]))
