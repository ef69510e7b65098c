"""Guidelines that a planner writes for several problems alike."""

from __future__ import annotations

import pandas as pd


def repeated(rows: pd.DataFrame) -> float:
    """Return the share of rows whose guideline is, spaces aside, also that of another problem; NaN without rows.

    Args:
        rows: a row for each guideline, with the columns `guideline` and `problem_id`.
    """
    problems = rows.groupby(rows["guideline"].str.strip())["problem_id"].transform("nunique")
    return float((problems > 1).mean())
