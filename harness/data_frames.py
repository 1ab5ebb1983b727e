"""Read tables that were written as Parquet or CSV, within what is expected of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.reading import MEBIBYTE, DamagedFile, first_line, parse_json, regular_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Kind = Literal["text", "integer", "number"]

PARQUET_BYTES = 1024 * MEBIBYTE
PARQUET_ROWS = 100_000_000
CSV_BYTES = 16 * MEBIBYTE
CSV_ROWS = 100_000
CSV_COLUMNS = 200
ONE_VALUE = b"one value"  # of a file's metadata: as JSON, the columns that hold one value in every row, with that value
FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError)


def read_parquet(
    path: Path, columns: Mapping[str, Kind] | None = None, most: int = PARQUET_ROWS, added: Collection[str] = ()
) -> pd.DataFrame:
    """Read a Parquet file that holds these columns and no others, in this order, of at most `most` rows.

    Only numbers may be missing, and are then NaN; columns that were `added` since may be absent. Without `columns`, any
    of the three kinds are read. Anything else is a `DamagedFile`.
    """
    with _opened(path, columns, most, added) as file:
        return _frame(path, file.read())


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, and in its metadata each value that all rows share: `parquet_pieces` reads it once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.Table.from_pandas(table, preserve_index=False)
    alike = [name for name in table if _kind(whole.schema.field(name).type) != "number"]
    alike = [name for name in alike if table[name].nunique(dropna=False) == 1]
    one = {name: values[0] for name, values in table[alike].head(1).to_dict("list").items()}
    metadata = {**(whole.schema.metadata or {}), ONE_VALUE: json.dumps(one).encode()}
    pq.write_table(whole.replace_schema_metadata(metadata), path)


def parquet_pieces(
    path: Path, columns: Mapping[str, Kind], wanted: Collection[str], added: Collection[str] = ()
) -> Iterator[pd.DataFrame]:
    """Read the ``wanted`` columns of such a file, a group of rows at a time; text as categories."""
    import pyarrow.parquet as pq

    with _opened(path, columns, PARQUET_ROWS, added) as file:
        there = [name for name in file.schema_arrow.names if name in wanted]
        one = _one_value(path, file.schema_arrow.metadata or {}, {name: columns[name] for name in there})
        read = [name for name in there if name not in one]
        texts = [name for name in read if columns[name] == "text"]
        with pq.ParquetFile(path, read_dictionary=texts, metadata=file.metadata) as by_code:
            for i in range(file.metadata.num_row_groups):
                found = dict(_frame(path, by_code.read_row_group(i, columns=read)))
                alike = {name: _repeated(one[name], file.metadata.row_group(i).num_rows) for name in one}
                yield pd.DataFrame({name: (found | alike)[name] for name in there}, copy=False)


def _one_value(path: Path, metadata: Mapping[bytes, bytes], columns: Mapping[str, Kind]) -> dict[str, str | int]:
    """Return which of the columns hold one value in every row, as the file says, and that value."""
    said = parse_json(metadata.get(ONE_VALUE, b"{}"), str(path))
    one = {name: value for name, value in said.items() if name in columns}
    for name, value in one.items():
        if (columns[name], type(value)) not in (("text", str), ("integer", int)):
            raise DamagedFile(f"{path}: {name}: expected {columns[name]} in every row, got {value!r:.100}")
        str(value).encode()  # half of a character is none
    return one


def _repeated(value: str | int, n: int) -> pd.Categorical[str] | NDArray[np.int64]:
    if isinstance(value, int):
        return np.full(n, value, np.int64)
    return pd.Categorical.from_codes(np.zeros(n, np.int8), pd.Index([value]))


@contextmanager
def _opened(
    path: Path, columns: Mapping[str, Kind] | None, most: int, added: Collection[str]
) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file and check what it says of itself; whatever is wrong with it is a `DamagedFile`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    regular_file(path, PARQUET_BYTES)
    try:
        with pq.ParquetFile(path) as file:
            described, schema = file.metadata, file.schema_arrow
            kinds = {field.name: _kind(field.type) for field in schema}
            _check(path, kinds, len(schema), columns and _there(columns, kinds, added))
            if not 0 <= described.num_rows <= most:
                raise DamagedFile(f"{path}: expected at most {most:,} rows, got {described.num_rows:,}")
            # Not the columns' own sizes: asking a damaged file for them ends the process.
            unpacked = sum(described.row_group(i).total_byte_size for i in range(described.num_row_groups))
            if unpacked > PARQUET_BYTES:
                raise DamagedFile(f"{path}: expected at most {PARQUET_BYTES:,} bytes, got {unpacked:,}")
            yield file
    except (pa.ArrowException, *FAULTS) as error:
        raise DamagedFile(f"{path}: not a Parquet file, or a damaged one ({first_line(error)})") from error


def _frame(path: Path, table: pa.Table) -> pd.DataFrame:
    table.validate(full=True)
    for field in table.schema:
        if _kind(field.type) != "number" and table.column(field.name).null_count:
            raise DamagedFile(f"{path}: {field.name}: expected a value in every row")
    # What pandas noted of itself would decide dtypes and an index: nobody needs it.
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return frame


def _there(columns: Mapping[str, Kind], found: Collection[str], added: Collection[str]) -> Mapping[str, Kind]:
    return {name: kind for name, kind in columns.items() if name in found or name not in added}


def _check(path: Path, found: Mapping[str, Kind | None], n: int, expected: Mapping[str, Kind] | None) -> None:
    if len(found) != n or (expected is not None and list(found) != list(expected)):
        wanted = "columns of different names" if expected is None else f"columns {', '.join(expected)}"
        raise DamagedFile(f"{path}: expected {wanted}, got {', '.join(found)}")
    for name, kind in found.items():
        wanted = expected[name] if expected else "text, integer or number"
        if kind is None or (expected and kind != wanted):
            raise DamagedFile(f"{path}: {name}: expected {wanted}, got {kind or 'something else'}")


def _kind(dtype: pa.DataType) -> Kind | None:
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        return "text" if _kind(dtype.value_type) == "text" else None
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return "text"
    if pa.types.is_integer(dtype):
        return "integer"
    return "number" if pa.types.is_floating(dtype) else None


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file with a header; an empty one is an empty table, and anything else a `DamagedFile`."""
    regular_file(path, CSV_BYTES)
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            columns = next(csv.reader(stream), [])
        if len(columns) > CSV_COLUMNS:
            raise DamagedFile(f"{path}: expected at most {CSV_COLUMNS} columns, got {len(columns):,}")
        table = pd.read_csv(path, nrows=CSV_ROWS + 1)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (csv.Error, *FAULTS) as error:
        raise DamagedFile(f"{path}: not a CSV file, or a damaged one ({first_line(error)})") from error
    if len(table) > CSV_ROWS:
        raise DamagedFile(f"{path}: expected at most {CSV_ROWS:,} rows")
    return table
