"""The names that page, figures and terminal give to artifacts and attacks: only what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.results.metrics import is_lab
from patches.patch import CONTROLS

SERIES = ("surrogate", "attack", "patch_px", "patch_area", "shape", "placement", "defence")
FORMATS = {"torch": "PyTorch", "onnx": "ONNX", "tflite": "TFLite"}
PRECISIONS = {"fp32": "float", "w8a8": "INT8"}


def labelled(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells or their summary in reading order, with a short ``artifact_label`` and ``series_label`` each.

    Order: victim, then PyTorch, float files, integer files and simulations. A series is an attack with its surrogate,
    size and place; controls have the label of their attack alone, and of a defence.
    """
    if cells.empty:
        return cells.assign(artifact_label="", series_label="")
    table = cells.copy()
    table["artifact_label"] = table["artifact"].map(_artifacts(table))
    made = table[~table["attack"].isin(CONTROLS)]
    varied = [c for c in SERIES if c != "attack" and (made.groupby("victim")[c].nunique(dropna=False) > 1).any()]
    if (table["defence"] != "").any() and "defence" not in varied:  # all patches have the one that clean images lack
        varied.append("defence")
    table["series_label"] = [_series(row, varied) for row in table.to_dict("records")]
    formats = table["format"].map({f: i for i, f in enumerate(FORMATS)}).fillna(len(FORMATS))
    rank = np.where(is_lab(table), 0, np.where(table["precision"] == "fp32", 1, 2))
    calibrations = table["calibration"].map({"minmax": 0}).fillna(1)
    table = table.assign(_rank=rank, _format=formats, _calibration=calibrations)
    order = ["victim", "_rank", "_format", "signature", "granularity", "_calibration", "artifact_label", "target"]
    table = table.sort_values(
        [*order, "series_label", "target_class", "seed"] if "seed" in table else order, kind="stable"
    )
    return table.drop(columns=["_rank", "_format", "_calibration"]).reset_index(drop=True)


def _artifacts(table: pd.DataFrame) -> dict[str, str]:
    """Label of each artifact; its own name where the words do not tell it from another one of the victim."""
    files = table.drop_duplicates("artifact")
    integer = files[~files["precision"].isin(["fp32", ""])]
    signed = integer.groupby("format")["signature"].nunique()
    channels = integer["granularity"].nunique() > 1
    labels = {}
    for row in files.to_dict("records"):
        parts = [FORMATS.get(row["format"], row["format"]), PRECISIONS.get(row["precision"], row["precision"])]
        if row["format"] == "torch" and row["precision"] not in ("fp32", ""):  # no integer anywhere
            parts = ["simulated", row["precision"]]
        parts += [row["signature"].upper()] * bool(signed.get(row["format"], 0) > 1)
        parts += [row["calibration"].replace("_", " ")]
        parts += [row["granularity"].replace("_", "-")] * bool(channels)
        labels[row["artifact"]] = " ".join(part for part in parts if part)
    known = files.assign(label=files["artifact"].map(labels))
    twice = known[known.duplicated(["victim", "label"], keep=False)]["artifact"]
    return labels | dict(zip(twice, twice, strict=True))


def _series(row: Mapping[Any, Any], varied: list[str]) -> str:
    if row["attack"] in CONTROLS:
        return ", ".join(filter(None, [row["attack"], row["defence"]]))
    words = {
        "surrogate": f"made on {row['surrogate']}" if row["surrogate"] else "",  # an imported patch has none
        "patch_px": f"{row['patch_px']} px",
        "patch_area": "" if "patch_px" in varied else f"{row['patch_area']:.1%} of the area",
        "shape": row["shape"],
        "placement": f"placed {row['placement']}",
        "defence": f"after {row['defence']}" if row["defence"] else "undefended",
    }
    return ", ".join([row["attack"], *(words[c] for c in varied if words[c])])


def made(row: Mapping[Any, Any]) -> str:
    """An attack and what its patches were made on: ``gap, made on float``."""
    return str(row["attack"]) + (f", made on {row['surrogate']}" if row.get("surrogate") else "")
