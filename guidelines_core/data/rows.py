"""Reads files and folders of problems row by row."""

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
"""The kinds of files, by their suffix in any letter case; the first three may also end in .gz."""

KINDS_TEXT = "a .jsonl, .json, .csv (each also .gz) or .parquet file, or a folder of datasets' save_to_disk"

SAVED = ("dataset_info.json", "dataset_dict.json")
"""Files that mark a folder of `datasets.save_to_disk`: of one data set, or of its splits."""

PEEKED = 100
"""How many rows are read to find the columns."""


def kind_of(path: Path) -> str | None:
    """Return a file's kind, one of `KINDS`, by its name; None if it has another suffix."""
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    return kind if kind in KINDS and not (kind == ".parquet" and name.endswith(".gz")) else None


def is_saved(path: Path) -> bool:
    """Return whether a folder was written by `datasets.save_to_disk`."""
    return any((path / name).is_file() for name in SAVED)


def is_local(source: str) -> bool:
    """Return whether a source is a file or a saved folder on this machine."""
    return Path(source).is_file() or is_saved(Path(source))


def read_rows(path: Path, columns: Iterable[str] = FIELDS) -> Iterator[object]:
    """Yield the rows of a file or saved folder; for a row that cannot be decoded, the `Drop` reason.

    JSONL, CSV and Parquet are read in pieces, a `.json` array as a whole.

    Args:
        path: one of `KINDS`, or a folder of `datasets.save_to_disk`.
        columns: the columns to read from a Parquet file.

    Raises:
        DatasetError: the file has another kind, or its content does not match its suffix.
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
        rows: the source's rows.
        columns: the source's names of columns, by this project's names, where they differ.
        source: the source's name, for messages.

    Raises:
        DatasetError: none of the first rows has a problem, or a named column.
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
            f"source {path} begins like a JSON array but is not one ({error}): correct it, or write one JSON "
            "object a line into a .jsonl file, where a broken line is skipped"
        ) from error
    if isinstance(read, list):
        return read
    lists = [value for value in read.values() if isinstance(value, list)] if isinstance(read, dict) else []
    return lists[0] if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]) else None


def _read_csv(path: Path) -> Iterator[object]:
    """Yield the lines of a table below its header; 65.0 becomes 65, since table libraries write integers so."""
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
            raise DatasetError(f"source {path} is not comma-separated ({error}): correct it") from error


def _read_saved(path: Path) -> Iterator[object]:
    import datasets  # type: ignore[import-untyped]

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # its readers raise many types of errors
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
                known = names  # for a message with all of them
            for batch in file.iter_batches(batch_size=1024, columns=known):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError:  # Arrow does not check strings on reading, so decode row by row
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
