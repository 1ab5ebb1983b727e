"""Tables of pandas: selected rows and named columns."""

from __future__ import annotations

from typing import Any

import pandas as pd


def where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows whose columns have these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def like_the_first(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the rows that share the first row's values in some columns, such as one size and one placement."""
    if table.empty:
        return table
    first = table.iloc[0]
    return where(table, **{column: first[column] for column in columns})


def with_columns(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return a table with these columns in front of its own."""
    return table.assign(**values)[[*values, *table.columns]]


def with_interval(*names: str) -> list[str]:
    """Return the columns of rates with the ends of their intervals: ``x``, ``x_low``, ``x_high``."""
    return [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
