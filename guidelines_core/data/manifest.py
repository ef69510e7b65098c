"""The manifest of a data set: what it was made from, and checksums to verify its files."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidelines_core.data.problems import DatasetError
from guidelines_core.digests import file_sha256

SCHEMA_VERSION = 6
"""Increased when the same source gives other files, so that they are prepared again."""

MANIFEST, TRAIN, VAL = "manifest.json", "train.parquet", "val.parquet"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a prepared data set was made from and what it holds; `manifest.json` is this as JSON.

    `rows_read` is the sum of `dropped`'s counts, `train_rows`, `val_rows` and `not_selected`. `source_sha256` is the
    file's digest (for `word-problems`, that of the generator's code) and None for a hub id; `excluded` has the digests
    of the benchmarks' files. Golds are checked until there are enough rows, so `not_selected` problems may have golds
    that do not parse. `prompt_lengths` counts the prompts of each split (`train`, `val`) by length in `length_unit`: a
    model's tokens, or `pieces` (words, numbers and single characters). `pass_rate` are the bounds by which training
    problems were chosen, if they were. `measured` is the file that `pass_rate.py` writes beside a source: how its pass
    rates and baselines were measured.
    """

    schema: int
    source: str
    source_sha256: str | None
    seed: int
    size: int
    val_size: int
    prompts_version: str
    columns: dict[str, str]
    golds_checked: bool
    excluded: dict[str, str]
    pass_rate: list[float] | None
    measured: dict[str, Any] | None
    rows_read: int
    dropped: dict[str, int]
    not_selected: int
    train_rows: int
    val_rows: int
    kept_by_source: dict[str, int]
    dropped_by_source: dict[str, dict[str, int]]
    length_unit: str
    prompt_lengths: dict[str, dict[str, int]]
    sha256: dict[str, str]

    @classmethod
    def load(cls, out: Path) -> Manifest:
        """Read the manifest of the data set at `out`.

        Raises:
            DatasetError: there is none, or it has another schema.
        """
        path = out / MANIFEST
        remedy = "prepare the data set again with python -m guidelines_core.data.prepare"
        try:
            manifest = cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DatasetError(f"{path} does not exist: {remedy}") from None
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{path} is not a data set's manifest ({error}): {remedy}") from error
        if manifest.schema != SCHEMA_VERSION:
            raise DatasetError(f"{path} has schema {manifest.schema!r}, expected {SCHEMA_VERSION}: {remedy}")
        return manifest

    def text(self) -> str:
        """Return the text of `manifest.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    def longer_than(self, split: str, limit: int) -> int:
        """Return how many prompts of a split are longer than `limit`."""
        return sum(count for length, count in self.prompt_lengths[split].items() if int(length) > limit)


def verify(out: Path) -> list[str]:
    """Return a sentence for each file at `out` that is missing or differs from the manifest."""
    try:
        manifest = Manifest.load(out)
    except DatasetError as error:
        return [str(error)]
    findings = []
    for name in (TRAIN, VAL):
        path, expected = out / name, manifest.sha256.get(name)
        if not path.is_file():
            findings.append(f"{path} does not exist: prepare the data set again")
        elif (actual := file_sha256(path)) != expected:
            findings.append(f"{path} has sha256 {actual}, the manifest says {expected}: prepare the data set again")
    return findings


def histogram(lengths: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of lengths in buckets, by the bucket's upper end: 32, 64, 128 and so on."""
    counts: Counter[int] = Counter()
    for length, count in lengths.items():
        counts[max(32, 1 << (int(length) - 1).bit_length())] += count
    return {str(end): counts[end] for end in sorted(counts)}


def measured_file(source: Path) -> Path:
    """Return the file that says how the pass rates in a source were measured."""
    return source.with_name(f"{source.name}.json")
