"""The records of a run on disk: one Parquet file or, of a large run, one for each artifact on each target."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from backends.device.files import replacing
from harness.data_frames import Kind, parquet_pieces, read_parquet, write_parquet
from harness.results.columns import ADDED, CELL_COLUMNS, OF_MANY_PASSES, RECORD_COLUMNS
from harness.results.gathering import JUDGED, Splits, gathered
from harness.results.run_directory import RECORDS, RECORDS_BY_PLACE, RunFacts, verify

IN_ONE_FILE = 2_000_000  # records
INTEGERS = ("target_class", "seed", "patch_px", "threads", "label", "pred")
NUMBERS = ("patch_area", "margin")
KINDS: dict[str, Kind] = {
    name: "integer" if name in INTEGERS else "number" if name in NUMBERS else "text"
    for name in (*CELL_COLUMNS, *RECORD_COLUMNS)
}
# of the columns that only some runs have
SOME_KINDS: dict[str, Kind] = {"verdict": "text", "passes": "integer", "certified": "integer", "board": "text"}


def write_records(run_dir: Path, tables: Iterable[pd.DataFrame], *, in_one_file: bool) -> None:
    """Write the records of a run: a table, or several, each of the cells of one artifact on one target."""
    (run_dir / RECORDS).unlink(missing_ok=True)
    shutil.rmtree(run_dir / RECORDS_BY_PLACE, ignore_errors=True)
    for table in tables:
        file = run_dir / RECORDS
        if not in_one_file:
            place = table[["artifact", "target"]].iloc[0]
            file = run_dir / RECORDS_BY_PLACE / str(place["artifact"]) / f"{place['target']}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            write_parquet(table, draft)


def read_records(run_dir: Path, run: RunFacts) -> pd.DataFrame:
    """Read all records of a finished run; another run's or a damaged file is a `UserError`."""
    files = _verified(run_dir, run)
    tables = [read_parquet(run_dir / name, KINDS | SOME_KINDS, added=(*ADDED, *SOME_KINDS)) for name in files]
    return _whole(tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True))


def read_outcomes(run_dir: Path, run: RunFacts) -> Splits:
    """Read what the records of a finished run are judged by, a piece at a time; refused as by `read_records`."""
    return gathered(_pieces(run_dir, _verified(run_dir, run)))


def record_pieces(run_dir: Path, run: RunFacts) -> Iterator[pd.DataFrame]:
    """Read the same as records: the columns that they are judged by, a piece at a time."""
    return _pieces(run_dir, _verified(run_dir, run))


def written_outcomes(run_dir: Path) -> Splits:
    """Read the same of a run that is not finished, and has no hashes yet."""
    places = sorted((run_dir / RECORDS_BY_PLACE).glob("*/*.parquet"))
    return gathered(_pieces(run_dir, [str(path.relative_to(run_dir)) for path in places] or [RECORDS]))


def _verified(run_dir: Path, run: RunFacts) -> list[str]:
    files = [name for name in run.files if name.startswith(f"{RECORDS_BY_PLACE}/")] or [RECORDS]
    verify(run_dir, run, *files)
    return files


def _pieces(run_dir: Path, files: Iterable[str]) -> Iterator[pd.DataFrame]:
    wanted = (*CELL_COLUMNS, *JUDGED, *OF_MANY_PASSES)
    for name in files:
        for piece in parquet_pieces(run_dir / name, KINDS | SOME_KINDS, wanted, added=(*ADDED, *SOME_KINDS)):
            yield _whole(piece)


def _whole(records: pd.DataFrame) -> pd.DataFrame:
    return records.assign(**{column: "" for column in ADDED if column not in records})
