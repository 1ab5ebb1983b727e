"""Records in one file and in one for each place: the same outcomes, rates and records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.made_run import make_run
from helpers.records import GAP, frame

from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from harness.results.gathering import gathered
from harness.results.metrics import cells
from harness.results.record_files import read_outcomes, read_records, write_records
from harness.results.run_directory import read_run, write_run

LABELS = [0, 0, 1, 2]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), victims=("net",), images=20, goals=(3,), seeds=2)


@pytest.fixture
def by_place(run_dir: Path) -> Iterator[Path]:
    """The same run with a file for each place."""
    records = pd.read_parquet(run_dir / "records.parquet")
    places = records.groupby(["artifact", "target"], sort=True)
    write_records(run_dir, (table for _, table in places), in_one_file=False)
    write_run(run_dir, read_run(run_dir))
    yield run_dir
    write_records(run_dir, [records], in_one_file=True)
    write_run(run_dir, read_run(run_dir))


def test_a_large_run_has_a_file_for_each_artifact_on_each_target(run_dir: Path, by_place: Path) -> None:
    names = [str(path.relative_to(by_place)) for path in sorted(by_place.glob("records/*/*.parquet"))]
    assert "records/net-tflite-w8a8-s8s8-minmax/litert-arm64.parquet" in names
    assert len(names) == 11
    assert not (by_place / "records.parquet").exists()
    assert set(names) <= set(read_run(by_place).files)


def test_both_kinds_of_files_hold_the_same(run_dir: Path) -> None:
    run = read_run(run_dir)
    one = read_records(run_dir, run), cells(read_outcomes(run_dir, run))
    places = [table for _, table in one[0].groupby(["artifact", "target"], sort=True)]
    write_records(run_dir, places, in_one_file=False)
    write_run(run_dir, run)
    run = read_run(run_dir)
    many = read_records(run_dir, run), cells(read_outcomes(run_dir, run))
    for before, after in zip(one, many, strict=True):
        keys = [name for name in ("artifact", "target", "patch", "target_class", "seed", "image") if name in before]
        pd.testing.assert_frame_equal(
            before.sort_values(keys, ignore_index=True), after.sort_values(keys, ignore_index=True)
        )
    write_records(run_dir, [one[0]], in_one_file=True)
    write_run(run_dir, run)


def test_a_file_that_was_changed_is_refused(by_place: Path) -> None:
    run = read_run(by_place)
    file = next(by_place.glob("records/*/*.parquet"))
    content = file.read_bytes()
    file.write_bytes(content[:-9] + b"x" + content[-8:])
    for read in (read_records, read_outcomes):
        with pytest.raises(DamagedFile, match=f"{file}: expected sha256"):
            read(by_place, run)


def test_pieces_in_any_order_give_the_same_rates() -> None:
    records = frame(({}, LABELS, LABELS), (GAP, LABELS, [1, 1, 1, "hung"]), (GAP | {"seed": 1}, LABELS, [1, 0, 1, 1]))
    whole = cells(records)
    shuffled = records.sample(frac=1, random_state=0)
    pieces = gathered([shuffled.iloc[:5], shuffled.iloc[5:7], shuffled.iloc[7:]])
    assert np.sort(pieces["evaluate"].preds, axis=None).tolist() == [-1, *[0] * 3, *[1] * 7, 2]
    again = cells(pieces).set_index(["attack", "seed"]).sort_index()
    pd.testing.assert_frame_equal(again, whole.set_index(["attack", "seed"]).sort_index())


def test_an_image_twice_in_two_pieces_is_refused() -> None:
    records = frame(({}, LABELS, LABELS))
    with pytest.raises(UserError, match="an image twice in a cell"):
        gathered([records, records.iloc[2:]])


def test_certified_accuracy_is_over_the_clean_images_with_a_verdict() -> None:
    records = frame(({}, LABELS, [0, 0, 1, 1]), (GAP, LABELS, [1, 1, 1, 1]))
    told = records.assign(
        verdict=["agreement"] * 3 + [""] + ["majority"] * 4, passes=[1, 3, 5, 7] * 2, certified=[1, 0, 1, 1] + [0] * 4
    )
    for piece in ([told], [told.iloc[:2], told.iloc[2:]]):
        table = cells(gathered(piece)).set_index("attack")
        assert table["n_certified"].to_dict() == {"none": 3, "gap": 0}  # one has no verdict
        assert table.loc["none", "certified_accuracy"] == pytest.approx(2 / 3)
        assert table["passes"].to_list() == [4, 4]
    assert "n_certified" not in cells(records)
