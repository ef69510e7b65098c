"""What the documents name is there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from guidelines_core.paths import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
MADE = ("analysis/results/start-",)
"""Beginnings of paths that a documented command writes."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_and_modules_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folders = "analysis|constraints|docs|experiments|guidelines_core|sweeps|tests"
    files = set(re.findall(rf"(?<![\w/.])((?:{folders})/[\w./-]+\.\w+)", text))
    missing = [
        file for file in files if not (ROOT / file).exists() and not file.startswith(MADE) and "NAME" not in file
    ]
    links = set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text))
    missing += [link for link in links if not (document.parent / link).exists()]
    missing += [module for module in re.findall(r"python -m ((?:\w+\.)+\w+)", text) if not find_spec(module)]
    assert missing == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 750
