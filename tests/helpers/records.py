"""Tables of records from a few lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.results.columns import CELL_COLUMNS, RECORD_COLUMNS

CELL = dict.fromkeys(CELL_COLUMNS, "") | {
    "victim": "net", "precision": "w8a8", "format": "onnx", "artifact": "net-onnx", "attack": "none", "target": "ort",
    "target_class": -1, "seed": 0, "patch_px": 0, "patch_area": 0.0, "threads": 1, "split": "evaluate",
}  # fmt: skip
GAP = {"attack": "gap", "surrogate": "float", "target_class": 1, "patch_px": 8, "patch": "gap-t1-s0"}
NOISE = {"attack": "noise", "target_class": 1, "patch_px": 8}
FLOAT = {"precision": "fp32", "format": "torch", "artifact": "net-torch", "target": "torch"}


def frame(*parts: tuple[dict[str, Any], list[int], list[int | str]]) -> pd.DataFrame:
    """Records of cells given as (columns, labels, predictions); a prediction that is text is an error's status."""
    rows = [
        CELL | cell | {"image": f"i{i}", "label": label, "status": "ok", "pred": pred, "margin": 0.0}
        if isinstance(pred, int)
        else CELL | cell | {"image": f"i{i}", "label": label, "status": pred, "pred": -1, "margin": 0.0}
        for cell, labels, preds in parts
        for i, (label, pred) in enumerate(zip(labels, preds, strict=False))
    ]
    return pd.DataFrame(rows, columns=[*CELL_COLUMNS, *RECORD_COLUMNS])


def one(table: pd.DataFrame, **wanted: Any) -> pd.Series:
    rows = table.loc[np.logical_and.reduce([table[k] == v for k, v in wanted.items()])]
    assert len(rows) == 1
    return rows.iloc[0]
