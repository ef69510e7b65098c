"""Problems -> verl's parquet files and a manifest that says what they are.

Run as `python -m guidelines_core.data.prepare --source PATH_OR_HUB_ID --out DIR --size 30000 --seed 0`.
Exit codes: 0 finished, 1 failed, 2 refused (the source or an argument), 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from guidelines_core import prompts
from guidelines_core.data import hub, word_problems
from guidelines_core.data.decontamination import Benchmarks
from guidelines_core.data.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    TRAIN,
    VAL,
    Manifest,
    histogram,
    measured_file,
    verify,
)
from guidelines_core.data.problems import FIELDS, DatasetError, Problem
from guidelines_core.data.rows import KINDS_TEXT, is_local, kind_of, read_rows, with_columns
from guidelines_core.data.selection import (
    PlannerMessages,
    length_unit,
    prompt_lengths,
    usable,
    with_parsed_golds,
    with_progress,
    within,
)
from guidelines_core.data.sources import digest
from guidelines_core.digests import file_sha256, text_sha256
from guidelines_core.grading import equality
from guidelines_core.terminal import replace_unprintable

__all__ = [
    "DEFAULT_VAL_SIZE",
    "ROW_SCHEMA",
    "Manifest",
    "PlannerMessages",
    "ensure",
    "main",
    "prepare",
    "verify",
]

DEFAULT_VAL_SIZE = 500
SPLITS = (("train", TRAIN), ("val", VAL))

ROW_SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {"index": pa.int64()}
            | dict.fromkeys(("question", "split", "source", "problem_id"), pa.string())
            | {"baseline": pa.float64()}
        ),
    }
)
"""A row as verl's `RLHFDataset` and reward manager read it."""


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
) -> Manifest:
    """Write train.parquet, val.parquet and manifest.json to `out`; an older data set there is replaced.

    `source` is `word-problems`, a file or folder that `rows.read_rows` reads, or a hub id. Of the usable problems,
    those first in the order of a hash of seed and problem become the validation rows (at most a fifth of all) and
    the next `size` the training rows, so that neither depends on the order of reading. The same source,
    arguments and pyarrow give the same bytes. All usable problems are held in memory, without solutions.

    Args:
        source: where the problems come from.
        out: the folder to write; nothing else may lie in it.
        size: training rows wanted; fewer are written if the source has fewer.
        seed: of the selection, and of the generator for `word-problems`.
        val_size: validation rows wanted.
        planner_messages: makes a row's prompt; the manifest records `prompts.VERSION` for it.
        gold_parses: tells whether the grader understands a gold, which is dropped otherwise; None keeps all.
        exclude: files of benchmarks, whose problems are left out (`overlap.Benchmarks`).
        pass_rate: the lowest and the highest pass rate of a training problem; None takes all. Validation takes all.
        tokenizer: the model whose tokens the manifest counts; None counts pieces of text.
        template: more arguments of the tokenizer's chat template.
        columns: what the source calls the columns `problem` and `answer`, where it has other names.

    Raises:
        DatasetError: a bad argument or source, or fewer than two usable problems.
    """
    asked = _inputs(source, size, seed, val_size, gold_parses, exclude, pass_rate, columns)
    with _locked(out):
        return _prepare(source, out.resolve(), asked, planner_messages, gold_parses, exclude, tokenizer, template)


def ensure(
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
) -> Manifest:
    """Do as `prepare` does, unless `out` already holds an intact data set made from the same inputs.

    One made from other inputs is never replaced. Where only the tokenizer is another one, the rows stay and the
    manifest's lengths are counted anew.
    Processes that call it for one `out` at the same time wait for one another, and one of them prepares.
    """
    asked = _inputs(source, size, seed, val_size, gold_parses, exclude, pass_rate, columns)
    with _locked(out):
        if not verify(out):
            found = Manifest.load(out)
            if other := [key for key, value in asked.items() if getattr(found, key) != value]:
                was = ", ".join(f"{key} {getattr(found, key)}, now {asked[key]}" for key in other)
                raise DatasetError(
                    f"out {out} holds a data set that was made otherwise ({was}), which a run may go on with: name "
                    "another folder, or make it anew with python -m guidelines_core.data.prepare"
                )
            if found.length_unit == length_unit(tokenizer, template):
                return found
            return _measured(found, out, tokenizer, template)
        return _prepare(source, out.resolve(), asked, planner_messages, gold_parses, exclude, tokenizer, template)


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
    path = Path(source)
    if source != word_problems.SOURCE and not is_local(source):
        _refuse_unless_on_the_hub(source)
    for file in exclude:
        if not file.is_file():
            raise DatasetError(f"exclude {file} is not a file: name a benchmark's {KINDS_TEXT}")
    return {
        "source": path.name if is_local(source) else source,
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


def _refuse_unless_on_the_hub(source: str) -> None:
    path = Path(source)
    if path.exists() or kind_of(path) or source[:1] in (".", "/", "~"):
        raise DatasetError(f"source {source} is not there or cannot be read: name {KINDS_TEXT}")
    if hub.split(source) is None:
        raise DatasetError(
            f"source {source!r} is unknown; expected 'word-problems', {KINDS_TEXT}, "
            "or a hub id such as AI-MO/NuminaMath-CoT or openai/gsm8k:main: check the spelling"
        )


def _prepare(
    source: str,
    out: Path,
    asked: dict[str, Any],
    planner_messages: PlannerMessages,
    gold_parses: Callable[[str], bool] | None,
    exclude: Sequence[Path],
    tokenizer: str | None,
    template: Mapping[str, Any],
) -> Manifest:
    if out.exists() and not out.is_dir():
        raise DatasetError(f"out {out} is a file, expected a folder: name a new folder")
    others = sorted({path.name for path in out.glob("*")} - {MANIFEST, TRAIN, VAL})
    if others:
        raise DatasetError(
            f"out {out} holds {', '.join(others[:5])}, which is no part of a data set and would be lost: "
            "name a new folder"
        )
    size, seed, val_size = asked["size"], asked["seed"], asked["val_size"]
    default_source = Path(source).name.split(".")[0] if is_local(source) else Path(source).stem
    data_source = default_source if is_local(source) else source
    rows = with_progress(rows_of(source, size + val_size, seed, asked["columns"]), "rows read")
    problems, by_source, rows_read = usable(rows, default_source, Benchmarks.of_files(exclude))
    problems.sort(key=lambda problem: text_sha256(f"{seed}:{problem.problem_id}"))
    val_rows = max(1, min(val_size, len(problems) // 5))
    if asked["pass_rate"] is not None:
        if all(math.isnan(problem.pass_rate) for problem in problems):
            raise DatasetError(
                f"guidelines.data.pass_rate={asked['pass_rate']}: no problem of {source} has a pass rate; measure them "
                "with python -m guidelines_core.data.pass_rate and name the file that it writes"
            )
        problems = problems[:val_rows] + within(problems[val_rows:], asked["pass_rate"], by_source)
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

    # Under the lock nobody else uses these names: what lies there was left by a process that was killed
    new, old = out.with_name(f".{out.name}.new"), out.with_name(f".{out.name}.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        _write_rows(new / TRAIN, train, "train", data_source, planner_messages)
        _write_rows(new / VAL, val, "val", data_source, planner_messages)
        manifest = Manifest(
            schema=SCHEMA_VERSION,
            **asked,
            measured=json.loads(said.read_text()) if (said := measured_file(Path(source))).is_file() else None,
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


def _measured(found: Manifest, out: Path, tokenizer: str | None, template: Mapping[str, Any]) -> Manifest:
    """Count the prompts of the data set at `out` by another tokenizer, and write and return its manifest."""
    manifest = dataclasses.replace(
        found, length_unit=length_unit(tokenizer, template), prompt_lengths=_lengths(out, tokenizer, template)
    )
    making = out.with_name(f".{out.name}.manifest")
    making.write_text(manifest.text(), encoding="utf-8")
    making.replace(out / MANIFEST)
    return manifest


def rows_of(source: str, count: int, seed: int, columns: Mapping[str, str] = MappingProxyType({})) -> Iterator[object]:
    """Yield a source's rows; of `word-problems`, `count` rows that follow from `seed`.

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


def _write_rows(
    path: Path, problems: Sequence[Problem], split: str, data_source: str, planner_messages: PlannerMessages
) -> None:
    rows = [
        {
            "data_source": data_source,
            "prompt": planner_messages(problem.question),
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem.gold},
            "extra_info": {
                "index": index,
                "question": problem.question,
                "split": split,
                "source": problem.source,
                "problem_id": problem.problem_id,
                "baseline": None if math.isnan(problem.baseline) else problem.baseline,
            },
        }
        for index, problem in enumerate(problems)
    ]
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    pq.write_table(table, path, compression="zstd", version="2.6", row_group_size=10_000)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of `out`, a file beside it; a process that ends, however it ends, gives it back."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f".{out.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares {out}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the data set that the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m guidelines_core.data.prepare",
        description="Turn maths problems into verl's train.parquet and val.parquet, with a manifest.",
    )
    add = parser.add_argument
    add(
        "--source",
        required=True,
        help="word-problems, a .jsonl, .json, .csv or .parquet file, a saved folder, or a hub id[:configuration]",
    )
    add("--problem", metavar="COLUMN", help="the source's column of problems (default: problem or question)")
    add("--answer", metavar="COLUMN", help="the source's column of answers (default: answer, else solution)")
    add("--out", required=True, type=Path, help="the folder to write")
    add("--size", type=int, default=30_000, help="training rows (default %(default)s)")
    add("--seed", type=int, default=0, help="of the selection (default %(default)s)")
    add("--val-size", type=int, default=DEFAULT_VAL_SIZE, help="validation rows (default %(default)s)")
    add("--exclude", type=Path, nargs="+", default=[], metavar="FILE", help="benchmarks whose problems are left out")
    add("--tokenizer", help="the model whose tokens the manifest counts (default: pieces of text)")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        manifest = prepare(
            given.source,
            given.out,
            size=given.size,
            seed=given.seed,
            val_size=given.val_size,
            exclude=given.exclude,
            tokenizer=given.tokenizer,
            columns={ours: theirs for ours in ("problem", "answer") if (theirs := getattr(given, ours)) is not None},
        )
    except DatasetError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}: nothing at {given.out} was changed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: nothing at {given.out} was changed", file=sys.stderr)
        return 130
    seconds = time.monotonic() - start
    rate = manifest.rows_read / seconds
    print(f"{manifest.rows_read:,} rows read in {seconds:.1f} s ({rate:,.0f} a second)")
    print(f"{given.out}: {manifest.train_rows:,} of {manifest.size:,} training rows asked for, ", end="")
    print(f"{manifest.val_rows:,} of {manifest.val_size:,} validation rows")
    print(f"usable but not selected: {manifest.not_selected:,}")
    print(f"prompts by length, up to so many {manifest.length_unit}: ", end="")
    print(", ".join(f"{end}: {count:,}" for end, count in histogram(manifest.prompt_lengths["train"]).items()))
    for reason, count in manifest.dropped.items():
        print(f"dropped as {reason}: {count:,}")
    return 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
