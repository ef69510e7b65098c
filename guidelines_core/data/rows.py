"""Files and folders of problems -> rows, one by one, whatever their kind."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from guidelines_core.data.problems import FIELDS, MAX_CHARACTERS, DatasetError, Drop

KINDS = (".jsonl", ".json", ".csv", ".parquet")
"""The kinds of files, by the end of their names in small or capital letters; the first three may end in .gz, too."""

KINDS_TEXT = "a .jsonl, .json, .csv (each also .gz) or .parquet file, or a folder of datasets' save_to_disk"

SAVED = ("dataset_info.json", "dataset_dict.json")
"""What tells a folder of `datasets.save_to_disk`: of one data set, or of its splits."""

PEEKED = 100
"""Rows whose columns are looked at before any is used."""


def kind_of(path: Path) -> str | None:
    """Return which of `KINDS` a file is by its name; None if it is none of them."""
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    return kind if kind in KINDS and not (kind == ".parquet" and name.endswith(".gz")) else None


def is_saved(path: Path) -> bool:
    """Say whether a folder was written by `datasets.save_to_disk`."""
    return any((path / name).is_file() for name in SAVED)


def is_local(source: str) -> bool:
    """Say whether a source is a file or a saved folder on this machine."""
    return Path(source).is_file() or is_saved(Path(source))


def read_rows(path: Path, columns: Iterable[str] = FIELDS) -> Iterator[object]:
    """Yield the rows of a file or saved folder; a row that cannot be decoded is its `Drop`.

    JSONL, CSV and parquet are read piece by piece, a `.json` array as a whole.

    Args:
        path: one of `KINDS`, or a folder of `datasets.save_to_disk`.
        columns: the columns that are read of a column file.

    Raises:
        DatasetError: the file is of another kind, or not what its name says.
    """
    kind = kind_of(path)
    try:
        if is_saved(path):
            yield from _read_saved(path)
        elif kind == ".parquet":
            yield from _read_parquet(path, columns)
        elif kind == ".csv":
            yield from _read_csv(path)
        elif kind is not None:
            whole = _whole_json(path) if kind == ".json" else None
            yield from _read_json_lines(path) if whole is None else whole
        else:
            raise DatasetError(f"source {path} ends in {path.suffix!r}; expected {KINDS_TEXT}: convert or rename it")
    except (gzip.BadGzipFile, EOFError) as error:
        raise DatasetError(f"source {path} cannot be unpacked ({error}): fetch it again") from error


def with_columns(rows: Iterable[object], columns: Mapping[str, str], source: str) -> Iterator[object]:
    """Yield rows whose columns have this project's names.

    Args:
        rows: as they come.
        columns: this project's names of columns and what they are called in the rows, where that is another name.
        source: where the rows are from, for a message.

    Raises:
        DatasetError: none of the first rows has a problem, or a column that was named.
    """
    rows = iter(rows)
    first = list(itertools.islice(rows, PEEKED))
    found = list(dict.fromkeys(str(name) for row in first if isinstance(row, Mapping) for name in row))
    wanted = [*columns.values(), *([] if "problem" in columns else ["problem or question"])]
    lacking = [name for name in wanted if not set(name.split(" or ") if " or " in name else [name]) & set(found)]
    if found and lacking:
        raise DatasetError(
            f"source {source} has the columns {', '.join(found)} and no {', '.join(lacking)}; expected 'problem' or "
            "'question', with 'answer' or 'solution': name the columns by guidelines.data.columns.problem=COLUMN and "
            "guidelines.data.columns.answer=COLUMN, or by --problem and --answer"
        )
    for row in itertools.chain(first, rows):
        if columns and isinstance(row, Mapping):
            yield {**row, **{ours: row.get(theirs) for ours, theirs in columns.items()}}
        else:
            yield row


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def _read_json_lines(path: Path) -> Iterator[object]:
    with _open(path) as file:
        for number, line in enumerate(file):
            if number == 0 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise DatasetError(f"source {path} is UTF-16: convert it by iconv -f UTF-16 -t UTF-8")
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if not content.strip():
                continue
            try:
                yield json.loads(content.decode("utf-8"))
            except UnicodeDecodeError:
                yield Drop.INVALID_UTF8
            except (ValueError, RecursionError):
                yield Drop.MALFORMED_JSON


def _whole_json(path: Path) -> list[object] | None:
    """Return the rows of one JSON array, bare or as the one list of an object; None if a file holds JSON lines."""
    with _open(path) as file:
        begin = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        file.seek(0)
        content = file.read() if begin in (b"[", b"{") else b""
    try:
        read = json.loads(content.decode("utf-8-sig")) if content else None
    except (ValueError, RecursionError) as error:
        if begin == b"{":
            return None
        raise DatasetError(
            f"source {path} begins like a JSON array but is not one ({error}): mend it, or write one JSON "
            "object a line into a .jsonl file, where a broken line is skipped"
        ) from error
    if isinstance(read, list):
        return read
    lists = [value for value in read.values() if isinstance(value, list)] if isinstance(read, dict) else []
    return lists[0] if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]) else None


def _read_csv(path: Path) -> Iterator[object]:
    """Yield the lines below a table's first; 65.0 is what a table library writes for the integer 65."""
    csv.field_size_limit(100 * MAX_CHARACTERS)
    with _open(path) as file:
        lines = (line.decode("utf-8", errors="surrogateescape") for line in file)
        text = itertools.chain((next(lines, "").removeprefix("\ufeff"),), lines)
        try:
            for row in csv.DictReader(text):
                yield {
                    name: value.removesuffix(".0") if value and re.fullmatch(r"-?\d+\.0", value) else value
                    for name, value in row.items()
                    if isinstance(name, str)
                }
        except csv.Error as error:
            raise DatasetError(f"source {path} is no table of comma-separated values ({error}): mend it") from error


def _read_saved(path: Path) -> Iterator[object]:
    import datasets  # type: ignore[import-untyped]

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever its readers raise
        raise DatasetError(
            f"source {path} is no folder that datasets.load_from_disk reads ({type(error).__name__}: {error}): "
            "save it again"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if "train" not in found:
            raise DatasetError(
                f"source {path} has the splits {', '.join(found)}; expected train: save one of them alone"
            )
        found = found["train"]
    yield from found


def _read_parquet(path: Path, columns: Iterable[str]) -> Iterator[object]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            known = [name for name in columns if name in names]
            if not known or set(columns) - set(FIELDS) - set(names):
                known = names  # for a message that names them all
            for batch in file.iter_batches(batch_size=1024, columns=known):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError:  # Arrow does not check strings on reading; find the broken row
                    yield from (_decode_row(batch.slice(index, 1)) for index in range(batch.num_rows))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"source {path} cannot be read as parquet ({error}): fetch it again, or check that it is parquet"
        ) from error


def _decode_row(batch: pa.RecordBatch) -> object:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Drop.INVALID_UTF8
