"""Sources of problems: the generator, a file, a saved folder, or a data set of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from guidelines_core.data import hub, word_problems
from guidelines_core.data.problems import FIELDS, DatasetError
from guidelines_core.data.rows import KINDS_TEXT, is_local, is_saved, kind_of, read_rows, with_columns
from guidelines_core.digests import file_sha256, text_sha256


def check_source(source: str) -> None:
    """Check that a source is the generator, a local file or folder, or may be a hub id.

    Raises:
        DatasetError: it is none of them.
    """
    if source == word_problems.SOURCE or is_local(source):
        return
    path = Path(source)
    if path.exists() or kind_of(path) or source[:1] in (".", "/", "~"):
        raise DatasetError(f"source {source} is not there or cannot be read: name {KINDS_TEXT}")
    if hub.split(source) is None:
        raise DatasetError(
            f"source {source!r} is unknown; expected 'word-problems', {KINDS_TEXT}, "
            "or a hub id such as AI-MO/NuminaMath-CoT or openai/gsm8k:main: check the spelling"
        )


def rows_of(source: str, count: int, seed: int, columns: Mapping[str, str] = MappingProxyType({})) -> Iterator[object]:
    """Yield a source's rows; of `word-problems`, the `count` rows that `seed` gives.

    Raises:
        DatasetError: the source cannot be read.
    """
    if source == word_problems.SOURCE:
        for problem in word_problems.generate(count, seed):
            yield {"problem": problem.question, "answer": problem.gold, "source": problem.source}
    elif is_local(source):
        yield from with_columns(read_rows(Path(source), (*FIELDS, *columns.values())), columns, source)
    else:
        yield from with_columns(hub.rows(source), columns, source)


def digest(source: str) -> str | None:
    """Return the SHA-256 of a source's content (file, saved folder, or generator's code); None for a hub id."""
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
    """Return a file's digest, computed once for each size and modification time."""
    return file_sha256(path)
