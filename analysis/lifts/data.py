"""The problems of a measurement: from a benchmark's file, the run's own, or newly generated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from omegaconf import DictConfig

from guidelines_core.data import word_problems
from guidelines_core.data.decontamination import Benchmarks
from guidelines_core.data.problems import DatasetError, Problem
from guidelines_core.data.rows import read_rows
from guidelines_core.data.selection import usable

SEEN = "seen_in_training"


@dataclass(frozen=True)
class Problems:
    """Problems to measure on.

    Attributes:
        label: a short name for files and metrics.
        source: the file, or a description of the generation.
        problems: the problems, distinct.
        left_out: rows that are not used, by reason.
    """

    label: str
    source: str
    problems: list[Problem]
    left_out: dict[str, int]


def trained_on(config: DictConfig) -> set[str]:
    """Return the ids of the problems in the run's training file; none if the file is gone."""
    file = Path(config.data.train_files)
    if not file.is_file():
        return set()
    return {problem.problem_id for problem in prepared(_rows(file)) or ()}


def load(source: str, config: DictConfig, seen: set[str], count: int | None) -> Problems:
    """Return the first `count` problems of `source` (None: all), without those whose id is in `seen`.

    Args:
        source: a .jsonl, .json or .parquet file with rows for `problems.parse_row`, a Parquet file that this project
            prepared, or `word-problems` for newly generated ones.
        config: the run's configuration, whose seed the generator must not repeat.
        seen: ids of problems that the planner was trained on.
        count: the number of problems; required for `word-problems`.

    Raises:
        DatasetError: the source cannot be read or has no usable problem, or `count` is missing.
    """
    path = Path(source)
    if source == word_problems.SOURCE:
        if count is None:
            raise DatasetError("word-problems are generated, as many as are asked for: give --problems N")
        seed = config.guidelines.data.seed + 1
        # More than `count`, since the run may have been trained on some of them.
        found = (Problem(p.question, p.gold, p.source) for p in word_problems.generate(4 * count, seed))
        label, source, problems, dropped = source, f"{source}, seed {seed}", list(found), Counter[str]()
    elif not path.is_file():
        raise DatasetError(f"{source} is no file: name a .jsonl, .json or .parquet file, or word-problems")
    elif (own := prepared(rows := _rows(path))) is not None:
        label, problems, dropped = path.stem, own, Counter()
    else:
        problems, by_source, _ = usable(rows, path.stem, Benchmarks(()))
        label, dropped = path.stem, sum(by_source.values(), Counter())
    chosen: list[Problem] = []
    for problem in dict.fromkeys(problems):
        if problem.problem_id in seen:
            dropped[SEEN] += 1
        elif count is None or len(chosen) < count:
            chosen.append(problem)
    if not chosen:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in dropped.items()) or "none"
        raise DatasetError(f"{source} has no problem to measure on (left out: {reasons})")
    return Problems(label, source, chosen, dict(dropped))


def prepared(rows: list[object]) -> list[Problem] | None:
    """Return the problems of a file that `guidelines_core.data.prepare` wrote, None if it did not."""
    found = []
    for row in rows:
        if not isinstance(row, dict) or not {"extra_info", "reward_model"} <= set(row):
            return None
        extra = row["extra_info"]
        found.append(Problem(extra["question"], row["reward_model"]["ground_truth"], extra["source"]))
    return found or None


def _rows(path: Path) -> list[object]:
    """Return a file's rows with lower-case keys; some benchmarks capitalize them."""
    if path.suffix == ".parquet":
        try:
            rows = pq.read_table(path).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path} cannot be read as parquet: {error}") from error
    else:
        rows = list(read_rows(path))
    return [{str(key).lower(): value for key, value in row.items()} if isinstance(row, dict) else row for row in rows]
