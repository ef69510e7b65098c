"""A data set of a run: train.parquet, val.parquet and manifest.json, made from a source of problems."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from guidelines_core import prompts
from guidelines_core.data.decontamination import Benchmarks
from guidelines_core.data.manifest import MANIFEST, SCHEMA_VERSION, TRAIN, VAL, Manifest, measured_file, verify
from guidelines_core.data.problems import DatasetError
from guidelines_core.data.rows import KINDS_TEXT, is_local
from guidelines_core.data.selection import (
    PlannerMessages,
    length_unit,
    prompt_lengths,
    usable,
    with_parsed_golds,
    with_progress,
    within,
)
from guidelines_core.data.sources import check_source, digest, rows_of
from guidelines_core.data.verl_rows import write_rows
from guidelines_core.digests import file_sha256, text_sha256
from guidelines_core.grading import equality

DEFAULT_VAL_SIZE = 500
SPLITS = (("train", TRAIN), ("val", VAL))


def prepare(
    source: str,
    out: Path,
    *,
    size: int,
    seed: int,
    val_size: int = DEFAULT_VAL_SIZE,
    planner_messages: PlannerMessages = prompts.planner_messages,
    gold_parses: Callable[[str], bool] | None = equality.gold_parses,
    exclude: Sequence[Path] = (),
    pass_rate: Sequence[float] | None = None,
    tokenizer: str | None = None,
    template: Mapping[str, Any] = MappingProxyType({}),
    columns: Mapping[str, str] = MappingProxyType({}),
    reuse: bool = False,
) -> Manifest:
    """Write train.parquet, val.parquet and manifest.json to `out`, and return the manifest.

    `source` is `word-problems`, a file or folder that `rows.read_rows` reads, or a hub id. Of the usable problems,
    those first in the order of a hash of seed and problem become the validation rows (at most a fifth of all) and
    the next `size` the training rows, so that neither depends on the order of reading. The same source,
    arguments and pyarrow give the same bytes. All usable problems are held in memory, without solutions. Processes that
    call this for the same `out` wait for each other.

    Args:
        source: where the problems come from.
        out: the folder to write; nothing else may lie in it.
        size: training rows wanted; fewer are written if the source has fewer.
        seed: of the selection, and of the generator for `word-problems`.
        val_size: validation rows wanted.
        planner_messages: makes a row's prompt; the manifest records `prompts.VERSION` for it.
        gold_parses: returns whether the grader can parse a gold; other problems are dropped. None keeps all.
        exclude: files of benchmarks whose problems are left out (`decontamination.Benchmarks`).
        pass_rate: the lowest and the highest pass rate of a training problem; None takes all. Validation takes all.
        tokenizer: the model whose tokens the manifest counts; None counts pieces of text.
        template: further arguments of the tokenizer's chat template.
        columns: the source's names of the columns `problem` and `answer`, where they differ.
        reuse: return the manifest of an intact data set in `out` that was made from the same inputs; if only the
            tokenizer differs, the rows stay and the manifest's lengths are counted again. False replaces any data set
            in `out`.

    Raises:
        DatasetError: a bad argument or source, fewer than two usable problems, or, with `reuse`, an intact data set in
            `out` that was made from other inputs.
    """
    inputs = _inputs(source, size, seed, val_size, gold_parses, exclude, pass_rate, columns)
    with _locked(out):
        if reuse and not verify(out):
            return _reused(out, inputs, tokenizer, template)
        return _prepare(source, out.resolve(), inputs, planner_messages, gold_parses, exclude, tokenizer, template)


def _reused(out: Path, inputs: Mapping[str, Any], tokenizer: str | None, template: Mapping[str, Any]) -> Manifest:
    """Return the manifest of the intact data set in `out`, its lengths counted with `tokenizer`.

    Raises:
        DatasetError: the data set was made from other inputs.
    """
    found = Manifest.load(out)
    if differing := [key for key, value in inputs.items() if getattr(found, key) != value]:
        was = ", ".join(f"{key} {getattr(found, key)}, now {inputs[key]}" for key in differing)
        raise DatasetError(
            f"out {out} holds a data set that was made otherwise ({was}), and a run may still need it: name "
            "another folder, or prepare it again with python -m guidelines_core.data.prepare"
        )
    if found.length_unit == length_unit(tokenizer, template):
        return found
    return _recounted(found, out, tokenizer, template)


def _inputs(
    source: str,
    size: int,
    seed: int,
    val_size: int,
    gold_parses: Callable[[str], bool] | None,
    exclude: Sequence[Path],
    pass_rate: Sequence[float] | None,
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """Check the arguments and return the manifest's entries that identify the data set."""
    for name, value in (("size", size), ("val_size", val_size)):
        if value < 1:
            raise DatasetError(f"{name} is {value}, expected 1 or more: ask for at least one row")
    check_source(source)
    for file in exclude:
        if not file.is_file():
            raise DatasetError(f"exclude {file} is not a file: name a benchmark's {KINDS_TEXT}")
    return {
        "source": Path(source).name if is_local(source) else source,
        "source_sha256": digest(source),
        "seed": seed,
        "size": size,
        "val_size": val_size,
        "prompts_version": prompts.VERSION,
        "columns": dict(columns),
        "golds_checked": gold_parses is not None,
        "excluded": {file.name: file_sha256(file) for file in sorted(exclude)},
        "pass_rate": None if pass_rate is None else [float(bound) for bound in pass_rate],
    }


def _prepare(
    source: str,
    out: Path,
    inputs: dict[str, Any],
    planner_messages: PlannerMessages,
    gold_parses: Callable[[str], bool] | None,
    exclude: Sequence[Path],
    tokenizer: str | None,
    template: Mapping[str, Any],
) -> Manifest:
    """Prepare the data set in `out`, whose lock is held; `inputs` are the manifest's entries of `_inputs`."""
    if out.exists() and not out.is_dir():
        raise DatasetError(f"out {out} is a file, expected a folder: name a new folder")
    others = sorted({path.name for path in out.glob("*")} - {MANIFEST, TRAIN, VAL})
    if others:
        raise DatasetError(
            f"out {out} holds {', '.join(others[:5])}, which is no part of a data set and would be lost: "
            "name a new folder"
        )
    size, seed, val_size = inputs["size"], inputs["seed"], inputs["val_size"]
    default_source = Path(source).name.split(".")[0] if is_local(source) else Path(source).stem
    data_source = default_source if is_local(source) else source
    rows = with_progress(rows_of(source, size + val_size, seed, inputs["columns"]), "rows read")
    problems, by_source, rows_read = usable(rows, default_source, Benchmarks.of_files(exclude))
    problems.sort(key=lambda problem: text_sha256(f"{seed}:{problem.problem_id}"))
    val_rows = max(1, min(val_size, len(problems) // 5))
    if inputs["pass_rate"] is not None:
        if all(math.isnan(problem.pass_rate) for problem in problems):
            raise DatasetError(
                f"guidelines.data.pass_rate={inputs['pass_rate']}: no problem of {source} has a pass rate; measure "
                "them with python -m guidelines_core.data.pass_rate and name the file that it writes"
            )
        problems = problems[:val_rows] + within(problems[val_rows:], inputs["pass_rate"], by_source)
    chosen = with_parsed_golds(problems, val_rows + size, gold_parses, by_source)
    dropped = sum(by_source.values(), Counter[str]())
    if len(chosen) < 2:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items())) or "none"
        raise DatasetError(
            f"source {source} has {len(chosen)} usable problems in {rows_read} rows (dropped: {reasons}); "
            "expected at least 2 rows with 'problem' or 'question' and 'answer', or with a boxed 'solution'"
        )
    if len(chosen) < val_rows + size:
        val_rows = max(1, min(val_rows, len(chosen) // 5))
    val, train = chosen[:val_rows], chosen[val_rows:]

    # The lock is held, so what lies there was left by a process that was killed.
    new, old = out.with_name(f".{out.name}.new"), out.with_name(f".{out.name}.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    measurement = measured_file(Path(source))
    try:
        write_rows(new / TRAIN, train, "train", data_source, planner_messages)
        write_rows(new / VAL, val, "val", data_source, planner_messages)
        manifest = Manifest(
            schema=SCHEMA_VERSION,
            **inputs,
            measured=json.loads(measurement.read_text()) if measurement.is_file() else None,
            rows_read=rows_read,
            dropped=dict(sorted(dropped.items())),
            not_selected=rows_read - sum(dropped.values()) - len(chosen),
            train_rows=len(train),
            val_rows=len(val),
            kept_by_source=dict(sorted(Counter(p.source for p in (*train, *val)).items())),
            dropped_by_source={name: dict(sorted(by_source[name].items())) for name in sorted(by_source)},
            length_unit=length_unit(tokenizer, template),
            prompt_lengths=_lengths(new, tokenizer, template),
            sha256={name: file_sha256(new / name) for name in (TRAIN, VAL)},
        )
        (new / MANIFEST).write_text(manifest.text(), encoding="utf-8")
        if out.exists():
            out.rename(old)
        new.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return manifest


def _lengths(folder: Path, tokenizer: str | None, template: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the manifest's `prompt_lengths` of the rows in `folder`."""
    chats = {split: pq.read_table(folder / name, columns=["prompt"])["prompt"].to_pylist() for split, name in SPLITS}
    counts = {split: Counter(prompt_lengths(chats[split], tokenizer, template)) for split in chats}
    return {split: {str(length): count for length, count in sorted(counts[split].items())} for split in counts}


def _recounted(found: Manifest, out: Path, tokenizer: str | None, template: Mapping[str, Any]) -> Manifest:
    """Count the prompts' lengths with another tokenizer; write and return the manifest."""
    manifest = dataclasses.replace(
        found, length_unit=length_unit(tokenizer, template), prompt_lengths=_lengths(out, tokenizer, template)
    )
    making = out.with_name(f".{out.name}.manifest")
    making.write_text(manifest.text(), encoding="utf-8")
    making.replace(out / MANIFEST)
    return manifest


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of `out`, a file beside it, which the system releases when the process ends."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that prepares {out}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
