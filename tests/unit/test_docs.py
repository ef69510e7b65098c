"""What README, CONTRIBUTING and docs/ name is there: files, modules that are run, links and make's targets."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from guidelines_core.paths import ROOT

TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "analysis").rglob("*.md")])
"""What says how things are today; docs/log keeps the commands of its day."""

TOP = "analysis|constraints|docs|experiments|guidelines_core|sweeps|tests"
FILE = re.compile(rf"(?<![\w/.])((?:{TOP})/[\w./-]+\.\w+)")
MODULE = re.compile(r"python -m ((?:\w+\.)+\w+)")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
TARGET = re.compile(r"`make ([a-z0-9-]+)|^make ([a-z0-9-]+)", re.MULTILINE)


MADE = ("analysis/results/start-",)
"""Beginnings of paths that a documented command writes."""


def missing(file: Path) -> list[str]:
    """Return what the text of a file names and the repository has not."""
    text = file.read_text()
    rules = (ROOT / "Makefile").read_text()
    files = [
        name
        for name in FILE.findall(text)
        if not (ROOT / name).exists() and not name.startswith(MADE) and "NAME" not in name
    ]
    modules = [name for name in MODULE.findall(text) if find_spec(name) is None]
    links = [name for name in LINK.findall(text) if not (file.parent / name).exists()]
    targets = [a or b for a, b in TARGET.findall(text) if not re.search(rf"^{a or b}:", rules, re.MULTILINE)]
    return [*files, *modules, *links, *targets]


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_text_names_is_there(file: Path) -> None:
    assert missing(file) == []


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    text = tmp_path / "text.md"
    text.write_text("`docs/gone.md`, `python -m analysis.gone`, [a](gone.md) and `make gone`; `README.md`, `make test`")
    assert missing(text) == ["docs/gone.md", "analysis.gone", "gone.md", "gone"]


def test_the_readme_is_short_and_shows_the_two_commands_to_begin_with() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 750
    assert "make quickstart" in text
    assert "make test" in text
