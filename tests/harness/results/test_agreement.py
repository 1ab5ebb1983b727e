"""Agreement between targets, against counts made by hand."""

import numpy as np
import pandas as pd
import pytest

from harness.report.agreement import pages
from harness.results.agreement import Replayed, agreement, output_integers
from harness.results.run_directory import RunFacts

SCALE = 0.5
CLEAN = np.array([[4, 1, 0], [0, 3, 3], [1, 1, 2]])  # of 2 targets, in steps
OTHER = np.array([[4, 1, 0], [0, 2, 3], [1, 1, -1]])


def ran(target: str, steps: np.ndarray, case: str = "none", integers: bool = True) -> Replayed:
    logits = (steps * SCALE).astype(np.float32)
    return Replayed("file", target, case, case != "none", logits, steps.astype(np.int64) if integers else None)


def test_pairs_are_counted_clean_and_patched_apart() -> None:
    every = [ran("a", CLEAN), ran("b", OTHER), ran("a", CLEAN, "p"), ran("b", CLEAN, "p"), ran("c", CLEAN, "p")]
    rows = {(row.a, row.b, row.images): row for row in agreement(every)}
    assert set(rows) == {("a", "b", "clean"), ("a", "b", "patched"), ("a", "c", "patched"), ("b", "c", "patched")}
    clean = rows["a", "b", "clean"]
    assert (clean.n, clean.values, clean.unit) == (3, 9, "step")
    assert clean.predictions_differ == pytest.approx(2 / 3)  # a tie goes to the lower class, so image 1 moves too
    assert clean.values_differ == pytest.approx(2 / 9)
    assert (clean.largest, clean.mean) == (3, 2)
    assert rows["a", "b", "patched"].values_differ == rows["a", "b", "patched"].largest == 0


def test_float_outputs_are_compared_as_logits() -> None:
    (row,) = agreement([ran("a", CLEAN, integers=False), ran("b", OTHER)])
    assert (row.unit, row.largest) == ("logit", 1.5)


def test_steps_are_counted_from_logits_on_the_grid_alone() -> None:
    logits = (CLEAN * 0.0123).astype(np.float32)
    np.testing.assert_array_equal(output_integers(logits, None, 0.0123), CLEAN)
    np.testing.assert_array_equal(output_integers(logits, CLEAN.astype(np.int8), None), CLEAN)
    assert output_integers(logits + np.float32(0.004), None, 0.0123) is None
    assert output_integers(logits, None, None) is None
    assert output_integers(np.full((1, 2), np.nan, np.float32), None, 0.1) is None


def test_the_page_names_what_two_targets_differ_in_and_who_is_identical() -> None:
    every = [ran("a", CLEAN), ran("b", CLEAN), ran("c", OTHER), ran("a", CLEAN, "p"), ran("b", CLEAN, "p")]
    run = {
        "schema": 2,
        "agreement": [row.plain() for row in agreement([*every, ran("c", CLEAN, "p")])],
        "targets": [
            {"name": "a", "runtime": "r", "host": "local", "info": {"version": "1"}, "machine": {"arch": "x86_64"}},
            {"name": "b", "runtime": "r", "host": "qemu", "info": {"version": "1"},
             "machine": {"arch": "aarch64", "emulated": True}},
            {"name": "c", "runtime": "r", "host": "local", "info": {"version": "2"}, "machine": {"arch": "x86_64"}},
        ],
    }  # fmt: skip
    cells = pd.DataFrame(
        {"artifact": ["file"], "victim": ["v"], "artifact_label": ["INT8"], "attack": ["gap"], "status": ["ok"],
         "target": ["a"], "targeted_success": [0.25], "untargeted_success": [0.5]}
    )  # fmt: skip
    (page,) = pages(RunFacts.model_validate(run), cells)
    assert page.artifact == "v, INT8"
    assert page.identical == [["a", "b"]]
    differ = {(row.entry.a, row.entry.b): row.differ for row in page.rows}
    assert differ["a", "b"] == ["instruction set", "emulation", "host"]
    assert differ["a", "c"] == ["version"]
    assert (page.rows[0].entry.a, page.rows[0].entry.b) == ("a", "c")
    assert page.rows[0].success_a == 0.25
    assert "<svg" in page.figure
    assert pages(RunFacts(schema=2), cells) == []
