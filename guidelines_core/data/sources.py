"""Where problems come from: a generator, a file, or a data set of the hub."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from guidelines_core.data import word_problems
from guidelines_core.data.rows import is_saved
from guidelines_core.digests import file_sha256, text_sha256


def digest(source: str) -> str | None:
    """Return the sha256 of a source's content: file, saved folder or generator's code; None for a hub id."""
    path = Path(word_problems.__file__) if source == word_problems.SOURCE else Path(source)
    if is_saved(path):
        files = sorted(file for file in path.rglob("*") if file.is_file())
        text = "".join(f"{file.relative_to(path)} {digest(str(file))}\n" for file in files)
        return text_sha256(text)
    if not path.is_file():
        return None
    status = path.stat()
    return _file_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _file_sha256(path: Path, size: int, changed: int) -> str:
    """Return a file's digest, computed once for each `size` and time of change."""
    return file_sha256(path)
