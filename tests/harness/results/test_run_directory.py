"""A run directory: what it lists is verified when it is read, and what is damaged is named with its mend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.edited_runs import SOME, facts_of, rewrite
from helpers.flips import flip, flipped
from helpers.made_run import make_run

from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from harness.results import baseline
from harness.results.record_files import read_records
from harness.results.run_directory import read_run, read_summary, verify
from harness.run.run import write_results


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = make_run(tmp_path_factory.mktemp("run"), victims=("net",), images=60, goals=(3, 5), files=SOME)
    write_results(run_dir)
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "no such folder; run the suite first"),
        (("report.html",), "expected the run.json and records.parquet of a finished run; run the suite first"),
        (("store",), "its run was interrupted, or is still at work; run it again to finish"),
    ],
)
def test_a_folder_without_a_finished_run_is_told_with_what_to_do(
    tmp_path: Path, there: tuple[str, ...], says: str
) -> None:
    for name in there:
        (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(DamagedFile, match=f"run: {says}"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "says"), [("before.json", "no such file; `patchbench baseline`"), ("run", "no such folder; run the suite")]
)
def test_a_run_or_a_baseline_that_is_not_there_is_told_with_what_makes_it(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UserError, match=f"{name}: {says}"):
        baseline.read(tmp_path / name)


def test_a_run_lists_every_file_that_its_report_rests_on(run_dir: Path) -> None:
    run = read_run(run_dir)
    there = {str(file.relative_to(run_dir)) for file in run_dir.rglob("*") if file.is_file()}
    assert set(run.files) == there - {"run.json"}
    verify(run_dir, run)


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_is_found_in_every_file(run_dir: Path, seed: int) -> None:
    run = read_run(run_dir)
    for name in run.files:
        with (
            flipped(run_dir / name, seed),
            pytest.raises(DamagedFile, match=f"{name}: expected sha256 .*; run the suite"),
        ):
            verify(run_dir, run)
    with flipped(run_dir / "records.parquet", seed), pytest.raises(DamagedFile):
        read_records(run_dir, run)
    with flipped(run_dir / "summary.json", seed), pytest.raises(DamagedFile):
        read_summary(run_dir, run)


def test_a_flipped_bit_of_run_json_is_found_or_harmless(run_dir: Path) -> None:
    run, found = read_run(run_dir), 0
    for seed in range(100):
        with flipped(run_dir / "run.json", seed):
            try:
                assert read_run(run_dir) == run
            except UserError:
                found += 1
    assert found > 50


def test_an_edited_run_json_is_found(run_dir: Path) -> None:
    file = run_dir / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": "another"}))
    with pytest.raises(
        DamagedFile, match=r"run.json: its content is not what was sealed with it.*; run the suite again"
    ):
        read_run(run_dir)


def test_a_run_of_an_older_schema_is_refused_with_the_version_that_wrote_it(run_dir: Path) -> None:
    (run_dir / "run.json").write_text(json.dumps(facts_of(run_dir) | {"schema": 1}))
    with pytest.raises(DamagedFile, match=r"expected schema 2, got 1 of patchbench 0\.1\.0; run the suite again"):
        read_run(run_dir)


def test_a_summary_of_another_run_is_found(run_dir: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", victims=("net",), images=40, goals=(3,), files=SOME)
    write_results(other)
    shutil.copy(other / "summary.json", run_dir)
    with pytest.raises(DamagedFile, match=r"summary.json: expected sha256"):
        read_summary(run_dir, read_run(run_dir))


@pytest.mark.parametrize("name", ["cells.csv", "summary.json", "report.html"])
def test_report_makes_anew_what_follows_from_the_records(run_dir: Path, name: str) -> None:
    before = (run_dir / name).read_bytes()
    flip(run_dir / name, 0)
    write_results(run_dir)
    assert (run_dir / name).read_bytes() == before
    verify(run_dir, read_run(run_dir))


@pytest.mark.parametrize("name", ["records.parquet", "patches/net-grey-s0.png"])
def test_report_seals_nothing_that_is_damaged(run_dir: Path, name: str) -> None:
    sealed = (run_dir / "run.json").read_bytes()
    flip(run_dir / name, 0)
    with pytest.raises(DamagedFile, match=name):
        write_results(run_dir)
    assert (run_dir / "run.json").read_bytes() == sealed


def test_a_file_that_run_json_does_not_list_is_not_read(run_dir: Path) -> None:
    (run_dir / "records.parquet").rename(run_dir / "elsewhere")
    rewrite(run_dir)
    (run_dir / "elsewhere").rename(run_dir / "records.parquet")
    with pytest.raises(DamagedFile, match=r"run.json: lists no records.parquet"):
        read_records(run_dir, read_run(run_dir))


@pytest.mark.parametrize("column", ["patch_px", "margin"])
def test_records_without_a_column_are_refused_even_where_their_hash_is_right(run_dir: Path, column: str) -> None:
    rewrite(run_dir, records=read_records(run_dir, read_run(run_dir)).drop(columns=column))
    with pytest.raises(DamagedFile, match=f"records.parquet: expected columns .*{column}"):
        read_records(run_dir, read_run(run_dir))


def test_a_run_from_before_targets_had_a_fidelity_is_read_and_says_none(run_dir: Path) -> None:
    records = read_records(run_dir, read_run(run_dir))
    rewrite(run_dir, records.drop(columns="fidelity"))
    older = read_records(run_dir, read_run(run_dir))
    assert set(older["fidelity"]) == {""}
    pd.testing.assert_frame_equal(older.drop(columns="fidelity"), records.drop(columns="fidelity"))
