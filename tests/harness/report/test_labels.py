"""Labels of artifacts and attacks: short, and never the same for two."""

import pandas as pd

from harness.report.labels import labelled
from harness.results.columns import CELL_COLUMNS


def test_names_that_would_mislead_are_told_apart() -> None:
    row = dict.fromkeys(CELL_COLUMNS, "") | {"victim": "v", "format": "tflite", "precision": "w8a8", "attack": "gap"}
    row |= {"patch_area": 0.06, "target_class": 1, "seed": 0, "calibration": "minmax"}
    table = pd.DataFrame(
        [
            row | {"artifact": "mine", "surrogate": "float", "patch_px": 8},
            row | {"artifact": "vendor's", "surrogate": "float:b", "patch_px": 8},
            row | {"artifact": "other", "calibration": "entropy", "surrogate": "float", "patch_px": 6},
        ]
    )
    named = labelled(table)
    assert sorted(named["artifact_label"]) == ["TFLite INT8 entropy", "mine", "vendor's"]
    assert sorted(named["series_label"]) == [
        "gap, crafted on float, 6 px", "gap, crafted on float, 8 px", "gap, crafted on float:b, 8 px",
    ]  # fmt: skip


def test_an_imported_patch_was_made_on_nothing_said() -> None:
    row = dict.fromkeys(CELL_COLUMNS, "") | {"victim": "v", "artifact": "a", "format": "tflite", "precision": "w8a8"}
    row |= {"patch_area": 0.06, "target_class": 1, "seed": 0, "patch_px": 8}
    named = labelled(pd.DataFrame([row | {"attack": "imported"}, row | {"attack": "gap", "surrogate": "float"}]))
    assert sorted(named["series_label"]) == ["gap, crafted on float", "imported"]
