"""Prepare a data set: verl's Parquet files of problems, and a manifest that describes them.

    python -m guidelines_core.data.prepare --source PATH_OR_HUB_ID --out DIR --size 30000 --seed 0

Exit codes: 0 finished, 1 failed, 2 refused (the source or an argument), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from guidelines_core.data.dataset import DEFAULT_VAL_SIZE, prepare
from guidelines_core.data.manifest import Manifest, histogram
from guidelines_core.data.problems import DatasetError
from guidelines_core.terminal import replace_unprintable


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
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        manifest = prepare(
            options.source,
            options.out,
            size=options.size,
            seed=options.seed,
            val_size=options.val_size,
            exclude=options.exclude,
            tokenizer=options.tokenizer,
            columns={ours: theirs for ours in ("problem", "answer") if (theirs := getattr(options, ours)) is not None},
        )
    except DatasetError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}: nothing at {options.out} was changed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: nothing at {options.out} was changed", file=sys.stderr)
        return 130
    report(manifest, options.out, time.monotonic() - start)
    return 0


def report(manifest: Manifest, out: Path, seconds: float) -> None:
    """Print what was read, chosen and dropped, and how long the prompts are."""
    rate = manifest.rows_read / seconds
    print(f"{manifest.rows_read:,} rows read in {seconds:.1f} s ({rate:,.0f} a second)")
    print(f"{out}: {manifest.train_rows:,} of {manifest.size:,} training rows asked for, ", end="")
    print(f"{manifest.val_rows:,} of {manifest.val_size:,} validation rows")
    print(f"usable but not selected: {manifest.not_selected:,}")
    print(f"prompts by length, up to so many {manifest.length_unit}: ", end="")
    print(", ".join(f"{end}: {count:,}" for end, count in histogram(manifest.prompt_lengths["train"]).items()))
    for reason, count in manifest.dropped.items():
        print(f"dropped as {reason}: {count:,}")


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
