"""Problems are read as they come: packed, wrapped, as tables, saved by datasets, under other names."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from guidelines_core.config.compose import compose
from guidelines_core.data.dataset import prepare
from guidelines_core.data.prepare import main
from guidelines_core.data.problems import DatasetError
from guidelines_core.data.rows import read_rows
from guidelines_core.data.sources import digest
from guidelines_core.preflight import prepare as prepare_run

ROWS = [{"problem": f"What is {n} plus {n}?\nSay, {n}.", "answer": str(2 * n)} for n in range(10)]


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def saved(path: Path, *, split: bool) -> None:
    import datasets  # type: ignore[import-untyped]

    made = datasets.Dataset.from_list(ROWS)
    (datasets.DatasetDict({"train": made}) if split else made).save_to_disk(str(path))


def table(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["problem", "answer"])
        writer.writeheader()
        writer.writerows({**row, "answer": f"{row['answer']}.0"} for row in ROWS)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.jsonl": lambda path: path.write_text(lines(ROWS)),
    "rows.JSONL": lambda path: path.write_text(lines(ROWS)),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS).encode())),
    "rows.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "lines.json": lambda path: path.write_text(lines(ROWS)),
    "rows.Json.GZ": lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS}, indent=1)),
    "one-line.json": lambda path: path.write_text(json.dumps({"data": ROWS})),
    "rows.csv": table,
    "rows.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "a=b,c.jsonl": lambda path: path.write_text(lines(ROWS)),
    "saved": lambda path: saved(path, split=False),
    "split": lambda path: saved(path, split=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_has_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert list(read_rows(tmp_path / name)) == ROWS
    manifest = prepare(str(tmp_path / name), tmp_path / "out", size=100, seed=0)
    assert (manifest.rows_read, manifest.train_rows + manifest.val_rows) == (10, 10)


@pytest.mark.parametrize("name", ["rows.jsonl", "saved"])
def test_a_sources_digest_is_its_contents(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    first = digest(str(tmp_path / name))
    (shutil.copytree if name == "saved" else shutil.copy)(tmp_path / name, tmp_path / "copy")
    assert digest(str(tmp_path / "copy")) == first
    changed = tmp_path / name / "state.json" if name == "saved" else tmp_path / name
    changed.write_text(changed.read_text() + "\n{}\n")
    assert digest(str(tmp_path / name)) != first


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_columns_are_refused_with_their_names_and_the_keys(tmp_path: Path, kind: str) -> None:
    rows = [{"Prompt": row["problem"], "target": row["answer"]} for row in ROWS]
    source = tmp_path / f"other.{kind}"
    if kind == "jsonl":
        source.write_text(lines(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), source)
    with pytest.raises(
        DatasetError, match=r"has the columns Prompt, target and no problem or question; .*columns\.problem="
    ):
        prepare(str(source), tmp_path / "out", size=100, seed=0)
    with pytest.raises(DatasetError, match="has the columns Prompt, target and no prompt;"):
        prepare(str(source), tmp_path / "out", size=100, seed=0, columns={"problem": "prompt", "answer": "target"})
    named = {"problem": "Prompt", "answer": "target"}
    manifest = prepare(str(source), tmp_path / "out", size=100, seed=0, columns=named)
    assert manifest.train_rows + manifest.val_rows == 10
    assert manifest.columns == named
    command = ["--source", str(source), "--out", str(tmp_path / "two"), "--problem", "Prompt", "--answer", "target"]
    assert main(command) == 0


def test_a_run_names_columns_by_its_keys(tmp_path: Path) -> None:
    source = tmp_path / "other.jsonl"
    source.write_text(lines([{"prompt": row["problem"], "target": row["answer"]} for row in ROWS]))
    overrides = ["trainer.total_training_steps=2", f"guidelines.data.source={source}"]
    names = {"problem": "prompt", "answer": "target"}
    columns = [f"guidelines.data.columns.{ours}={theirs}" for ours, theirs in names.items()]
    unnamed, named = compose("tiny", overrides), compose("tiny", [*overrides, *columns])
    assert named.data.train_files != unnamed.data.train_files
    folder = [f"data.{split}_files={tmp_path}/data/{split}.parquet" for split in ("train", "val")]
    assert prepare_run(compose("tiny", [*overrides, *folder, *columns]), []) == []
