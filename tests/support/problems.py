"""A file of problems as verl reads it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def write_problems(path: Path, question: str, **more: object) -> None:
    """Write one problem as verl reads it; `more` stands beside its id."""
    row = {
        "data_source": "s",
        "prompt": [{"role": "user", "content": question}],
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {"problem_id": "1", "question": question, **more},
    }
    pd.DataFrame([row]).to_parquet(path)
