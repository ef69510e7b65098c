"""Tables from pandas: for a terminal, and as plain values for JSON."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def number(value: object, digits: int = 4) -> str:
    """Return a value as a table shows it: a number to `digits` significant digits, nothing for NaN and None."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def show(console: Console, frame: pd.DataFrame, title: str, at_once: int = 6) -> None:
    """Print a table; more than `at_once` columns are printed below one another, each time with the index."""
    for first in range(0, max(1, len(frame.columns)), at_once):
        part = frame.iloc[:, first : first + at_once]
        table = Table(title=title if first == 0 else None, title_justify="left")
        table.add_column(escape(str(frame.index.name or "")), overflow="fold")
        for name in part.columns:
            table.add_column(escape(str(name)), justify="right", overflow="fold")
        for index, values in zip(part.index, part.itertuples(index=False, name=None), strict=True):
            table.add_row(*(escape(text) for text in (str(index), *map(number, values))))
        console.print(table)


def interval(value: float, low: float, high: float, sign: bool = False) -> str:
    """Return a value with its interval, to three places; nothing for NaN."""
    form = "+.3f" if sign else ".3f"
    return "" if math.isnan(value) else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def records(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return a table as plain values for JSON: by index, then by column; NaN is None."""
    clean = frame.astype(object).where(frame.notna(), None)
    return {str(index): {str(k): _plain(v) for k, v in row.items()} for index, row in clean.to_dict("index").items()}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
