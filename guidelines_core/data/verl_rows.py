"""The rows that verl reads: their Parquet schema, and how problems become rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from guidelines_core.data.problems import Problem
from guidelines_core.data.selection import PlannerMessages

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


def write_rows(
    path: Path, problems: Sequence[Problem], split: str, data_source: str, planner_messages: PlannerMessages
) -> None:
    """Write a row for each problem to the Parquet file `path`.

    Args:
        path: the file.
        problems: the problems, in order.
        split: `train` or `val`.
        data_source: the name of the collection.
        planner_messages: makes a question's prompt.
    """
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
