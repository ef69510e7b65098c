"""The graded pairs of grading_corpus.tsv, whose verdicts were decided by hand before any grader saw them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A pair and the verdict (a `Reason`'s value) of a careful mathematician; `source` is whose style it has."""

    source: str
    kind: str
    verdict: str
    gold: str
    solution: str


def corpus() -> list[Case]:
    """Return every case; in the file, ⏎ stands for a line break."""
    path = Path(__file__).with_name("grading_corpus.tsv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Case(**{key: value.replace("⏎", "\n") for key, value in row.items()}) for row in rows]
