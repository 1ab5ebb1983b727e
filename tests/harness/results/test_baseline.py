"""Baselines: what is frozen, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.edited_runs import SOME, facts_of, rewrite
from helpers.flips import flipped
from helpers.made_run import FILES, make_run

from backends.device.errors import UserError
from harness.results.baseline import freeze, read
from harness.results.columns import CELL_COLUMNS
from harness.sealed import sealed


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("before"), victims=("net",), images=600, goals=(3, 5), files=SOME)


def test_a_baseline_holds_the_run_and_stays_small(tmp_path: Path) -> None:
    """20 cells x 1000 images, with predictions of a thousand classes that compress badly."""
    root = make_run(tmp_path / "run", victims=("net",), images=1000, goals=(3,), files=FILES[:5], seeds=1)
    records = pd.read_parquet(root / "records.parquet")
    cells = records.groupby(list(CELL_COLUMNS), sort=False).ngroup()
    records = records[cells < 20]
    records = records.assign(pred=np.random.default_rng(0).integers(1000, size=len(records)))
    rewrite(root, records)
    assert len(records) == 20_000
    freeze(root, tmp_path / "base.json")
    assert (tmp_path / "base.json").stat().st_size < 1_000_000
    known, run = read(tmp_path / "base.json"), read(root)
    assert (known.outcomes.preds == run.outcomes.preds).all()
    assert known.outcomes.preds.tolist() == records["pred"].to_numpy().reshape(20, 1000).tolist()
    assert (known.outcomes.images == run.outcomes.images).all()
    pd.testing.assert_frame_equal(known.outcomes.cells, run.outcomes.cells)
    assert known.facts == run.facts


def with_cell(raw: dict[str, Any], **values: object) -> dict[str, Any]:
    first, *others = raw["cells"]
    return raw | {"cells": [first | values, *others]}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw | {"schema": 1}, "of schema 2, got 'patchbench baseline' of schema 1; freeze the run again"),
        (lambda raw: raw | {"cells": []}, "without a cell"),
        (lambda raw: raw | {"cells": raw["cells"][:-1]}, "damaged"),
        (lambda raw: raw | {"preds": raw["preds"] | {"zlib": "AAAA"}}, "neither a run directory nor a baseline"),
        (lambda raw: raw | {"preds": raw["preds"] | {"dtype": "object"}}, "neither"),
        (
            lambda raw: raw | {"cells": [raw["cells"][0] | {"clean_accuracy": 0.5}, *raw["cells"][1:]]},
            "cell net-torch-fp32 on torch, no patch: clean_accuracy is 0.5, its predictions say 0.9",
        ),
        (lambda raw: raw | {"cells": [raw["cells"][0] | {"n_clean": 599}, *raw["cells"][1:]]}, "n_clean is 599"),
        (lambda raw: {"schema": 1}, "got None of schema 1"),
        (lambda raw: with_cell(raw, target_class=None), "cell 1, target_class: expected int, got None"),
        (lambda raw: with_cell(raw, seed=10**12), "cell 1, seed: expected int, got 1000000000000"),
        (lambda raw: with_cell(raw, surrogate=3), "cell 1, surrogate: expected str, got 3"),
    ],
)
def test_what_is_no_baseline_is_refused(before: Path, tmp_path: Path, damage: Any, says: str) -> None:
    freeze(before, tmp_path / "base.json")
    raw = json.loads((tmp_path / "base.json").read_text())
    del raw["sha256"]
    (tmp_path / "base.json").write_text(json.dumps(sealed(damage(raw))))
    with pytest.raises(UserError, match=says):
        read(tmp_path / "base.json")


def test_a_flipped_bit_of_a_baseline_is_found_or_harmless(before: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    freeze(before, base)
    known, found = read(base), 0
    for seed in range(40):
        with flipped(base, seed):
            try:
                same = read(base)
            except UserError:
                found += 1
                continue
            assert same.facts == known.facts
            assert (same.outcomes.preds == known.outcomes.preds).all()
    assert found > 30


def test_an_edited_baseline_is_found(before: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    freeze(before, base)
    base.write_text(base.read_text().replace('"commit": ""', '"commit": "another"'))
    with pytest.raises(UserError, match="not what was sealed with it: damaged or edited; freeze the run again"):
        read(base)


def test_a_baseline_from_before_targets_had_a_fidelity_is_read_and_says_none(before: Path, tmp_path: Path) -> None:
    freeze(before, tmp_path / "base.json")
    raw = json.loads((tmp_path / "base.json").read_text())
    del raw["sha256"]
    older = raw | {"cells": [{k: v for k, v in cell.items() if k != "fidelity"} for cell in raw["cells"]]}
    (tmp_path / "older.json").write_text(json.dumps(sealed(older)))
    known, found = (read(tmp_path / name).outcomes for name in ("base.json", "older.json"))
    assert set(found.cells["fidelity"]) == {""}
    assert (found.preds == known.preds).all()


def test_a_patch_without_a_file_is_frozen_by_its_name(before: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(before, run)
    facts = facts_of(run)
    rewrite(run, run=facts | {"patches": [patch | {"file": ""} for patch in facts["patches"]]})
    freeze(run, tmp_path / "base.json")
    packed = json.loads((tmp_path / "base.json").read_text())["patch_pixels"]
    assert packed == [{"name": patch["name"]} for patch in facts["patches"]]
