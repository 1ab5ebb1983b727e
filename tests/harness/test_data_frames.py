import json
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.memory import reading

from backends.device.reading import DamagedFile
from harness.data_frames import (
    CSV_COLUMNS,
    CSV_ROWS,
    ONE_VALUE,
    parquet_pieces,
    read_csv,
    read_parquet,
    write_parquet,
)

COLUMNS = {"target": "text", "n": "integer", "share": "number"}


def table(**changes):
    columns = {"target": pd.Categorical(["a", "b", "a"]), "n": np.int32([1, 2, 3]), "share": [0.5, np.nan, 1.0]}
    return pd.DataFrame(columns | changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.parquet"


def test_a_table_comes_back_as_pandas_wrote_it(path):
    table().to_parquet(path, index=False)
    pd.testing.assert_frame_equal(read_parquet(path, COLUMNS, most=3), table())
    pd.testing.assert_frame_equal(read_parquet(path), table())


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (table(n=[1.0, 2.0, 3.0]), "n: expected integer, got number"),
        (table(share=["a", "b", "c"]), "share: expected number, got text"),
        (table(target=[b"a", b"b", b"c"]), "target: expected text, got something else"),
        (table(n=pd.to_datetime(["2020-01-01"] * 3)), "n: expected integer, got something else"),
        (table(target=["a", None, "c"]), "target: expected a value in every row"),
        (table(n=pd.array([1, None, 3], "Int64")), "n: expected a value in every row"),
        (table(more=1), "expected columns target, n, share, got target, n, share, more"),
        (table()[["n", "target", "share"]], "expected columns target, n, share, got n, target, share"),
        (pd.concat([table(), table()]), "expected at most 3 rows, got 6"),
    ],
)
def test_a_table_of_other_columns_types_or_length_is_refused(path, written, message):
    written.to_parquet(path, index=False)
    with pytest.raises(DamagedFile, match=message):
        read_parquet(path, COLUMNS, most=3)


@pytest.mark.parametrize("same", [{}, {"target": "ä"}, {"target": "", "n": 7}, {"share": 0.5}])
def test_what_all_rows_share_is_read_from_the_metadata_as_from_the_rows(path, same):
    write_parquet(table(**same), path)
    one = json.loads(pq.read_schema(path).metadata[ONE_VALUE])
    assert one == {name: value for name, value in same.items() if name != "share"}
    pieces = list(parquet_pieces(path, COLUMNS, ("target", "n")))
    pd.testing.assert_frame_equal(
        pd.concat(pieces), read_parquet(path, COLUMNS)[["target", "n"]], check_dtype=False, check_categorical=False
    )
    pd.testing.assert_frame_equal(read_parquet(path, COLUMNS), table(**same), check_dtype=False)


@pytest.mark.parametrize(
    "said",
    ['{"n": "a"}', '{"n": true}', '{"share": 0.5}', '{"target": "\\ud800"}', '{"n": 1e999}', "[", '"n"', "[" * 9999],
)
def test_a_file_that_says_of_its_rows_what_cannot_be_is_refused(path, said):
    whole = pa.Table.from_pandas(table(), preserve_index=False)
    pq.write_table(whole.replace_schema_metadata({ONE_VALUE: said.encode()}), path)
    with pytest.raises(DamagedFile, match=str(path)):
        list(parquet_pieces(path, COLUMNS, COLUMNS))


def test_two_columns_of_a_name_are_refused(path):
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["n", "n"]), path)
    with pytest.raises(DamagedFile, match="columns of different names"):
        read_parquet(path)


def test_many_rows_in_few_bytes_are_refused_unread(path):
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(30_000_000, np.int8)), pa.array(["a"]))
    pq.write_table(pa.table({"target": rows}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    call = "read_parquet(Path(sys.argv[1]), {'target': 'text'}, most=1000)"
    grown, said = reading("import pyarrow.parquet\nfrom harness.data_frames import read_parquet", call, path)
    assert said == f"{path}: expected at most 1,000 rows, got 30,000,000"
    assert grown < 20


FLIPS = """
import random, sys
from pathlib import Path
from backends.device.reading import DamagedFile
from harness.data_frames import read_parquet
file = Path(sys.argv[1])
whole, found = file.read_bytes(), 0
for seed in range(300):
    flipped, chance = bytearray(whole), random.Random(seed)
    flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    file.write_bytes(flipped[: len(whole) if seed % 3 else chance.randrange(len(whole))])
    try:
        read_parquet(file, {"target": "text", "n": "integer", "share": "number"}, most=3)
    except DamagedFile:
        found += 1
print(found)
"""


def test_a_flipped_bit_is_a_damaged_file_or_another_table_and_never_the_end_of_the_process(path):
    """In a process of its own: a damaged file must not abort it from within Arrow."""
    table().to_parquet(path, index=False)
    done = subprocess.run([sys.executable, "-c", FLIPS, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n1,2,3,4\n", "not a CSV file"),
        (b"a,b\n\xff\xfe,2\n", "not a CSV file"),
        (b'a,b\n"1,2\n', "not a CSV file"),
        (b"," * CSV_COLUMNS + b"\n", "at most 200 columns, got 201"),
        (b"a\n" + b"1\n" * (CSV_ROWS + 1), "at most 100,000 rows"),
        (b"a" * 200_000, "not a CSV file"),
    ],
)
def test_a_csv_that_is_damaged_or_too_large_is_refused(tmp_path, content, message):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=message):
        read_csv(file)


def test_a_csv_comes_back_and_an_empty_one_is_an_empty_table(tmp_path):
    file = tmp_path / "table.csv"
    table().to_csv(file, index=False)
    pd.testing.assert_frame_equal(read_csv(file), table(target=["a", "b", "a"], n=[1, 2, 3]))
    file.write_text("\n")
    assert read_csv(file).empty


def test_random_bytes_are_no_table(tmp_path):
    file = tmp_path / "table"
    for seed in range(20):
        file.write_bytes(b"PAR1" + random.Random(seed).randbytes(200) + b"PAR1")
        with pytest.raises(DamagedFile):
            read_parquet(file)
