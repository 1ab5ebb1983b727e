"""Short labels of artifacts and attacks for the page, its figures, and the terminal: only what tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from backends.device.artifact import PARTLY
from harness.results.metrics import is_lab
from patches.patch import CONTROLS

SERIES = ("surrogate", "attack", "patch_px", "patch_area", "shape", "placement", "defence")
FORMATS = {
    "torch": "PyTorch",
    "onnx": "ONNX",
    "tflite": "TFLite",
    "pte": "ExecuTorch",
    "bmodel": "BM1684X",
    "cvimodel": "CV181x",
    "rknn": "RK3588",
    "kmodel": "K230",
    "espdl": "ESP32-P4",
}
PRECISIONS = {"fp32": "float", "w8a8": "INT8", f"w8a8{PARTLY}": "INT8 and float"}


def labelled(cells: pd.DataFrame) -> pd.DataFrame:
    """Sort cells or their summary for reading, and add ``artifact_label``, ``target_label`` and ``series_label``.

    Order: victim, then PyTorch, float files, integer files and simulations. A series is an attack with its surrogate,
    size and place; a control's label is its attack and its defence.
    """
    if cells.empty:
        return cells.assign(artifact_label="", target_label="", series_label="")
    table = cells.copy()
    table["artifact_label"] = table["artifact"].map(_artifacts(table))
    table["target_label"] = [target_label(*pair) for pair in zip(table["target"], table["fidelity"], strict=True)]
    by_victim = table[~table["attack"].isin(CONTROLS)].groupby("victim")
    varied = [c for c in SERIES if c != "attack" and (by_victim[c].nunique(dropna=False) > 1).any()]
    if (table["defence"] != "").any() and "defence" not in varied:  # all patches have it, clean images lack it
        varied.append("defence")
    table["series_label"] = _by_values(table[list(SERIES)], lambda row: _series(row, varied))
    formats = table["format"].map({f: i for i, f in enumerate(FORMATS)}).fillna(len(FORMATS))
    rank = np.where(is_lab(table), 0, np.where(table["precision"] == "fp32", 1, 2))
    calibrations = table["calibration"].map({"minmax": 0}).fillna(1)
    table = table.assign(_rank=rank, _format=formats, _calibration=calibrations)
    order = ["victim", "_rank", "_format", "signature", "granularity", "_calibration", "artifact_label", "target"]
    table = table.sort_values(
        [*order, "series_label", "target_class", "seed"] if "seed" in table else order, kind="stable"
    )
    return table.drop(columns=["_rank", "_format", "_calibration"]).reset_index(drop=True)


def case_labels(cells: pd.DataFrame, class_names: Sequence[str]) -> list[str]:
    """Return what tells each cell of a series from the others: ``cat, seed 0, 8 px, random``; empty without a patch."""

    def label(row: Mapping[Hashable, Any]) -> str:
        goal = row["target_class"]
        name = "–" if goal < 0 else class_names[goal] if goal < len(class_names) else f"class {goal}"
        said = (name, f"seed {row['seed']}", f"{row['patch_px']} px", str(row["placement"]))
        return "" if row["attack"] == "none" else ", ".join(said)

    return _by_values(cells[["attack", "target_class", "seed", "patch_px", "placement"]], label)


def _by_values(table: pd.DataFrame, label: Callable[[Mapping[Hashable, Any]], str]) -> list[str]:
    """Return the label of each row, of equal rows made once."""
    group = table.groupby(list(table.columns), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    first = table.iloc[np.unique(group, return_index=True)[1]]
    labels = [label(row) for row in first.to_dict("records")]
    return [labels[one] for one in group.tolist()]


def _artifacts(table: pd.DataFrame) -> dict[str, str]:
    """Return the label of each artifact; its own name where the label is another artifact's of its victim too."""
    files = table.drop_duplicates("artifact")
    integer = files[~files["precision"].isin(["fp32", ""])]
    signatures = integer.groupby("format")["signature"].nunique()
    granularities = integer["granularity"].nunique()
    labels = {}
    for row in files.to_dict("records"):
        if row["format"] == "torch" and row["precision"] not in ("fp32", ""):  # fake-quantized: no integers anywhere
            parts = ["simulated", row["precision"]]
        else:
            parts = [FORMATS.get(row["format"], row["format"]), PRECISIONS.get(row["precision"], row["precision"])]
        if signatures.get(row["format"], 0) > 1:
            parts.append(row["signature"].upper())
        parts.append(row["calibration"].replace("_", " "))
        if granularities > 1:
            parts.append(row["granularity"].replace("_", "-"))
        labels[row["artifact"]] = " ".join(part for part in parts if part)
    labelled_files = files.assign(label=files["artifact"].map(labels))
    twice = labelled_files[labelled_files.duplicated(["victim", "label"], keep=False)]["artifact"]
    return labels | dict(zip(twice, twice, strict=True))


def _series(row: Mapping[Hashable, Any], varied: list[str]) -> str:
    if row["attack"] in CONTROLS:
        return ", ".join(filter(None, [row["attack"], row["defence"]]))
    parts = {
        "surrogate": f"crafted on {row['surrogate']}" if row["surrogate"] else "",  # an imported patch has none
        "patch_px": f"{row['patch_px']} px",
        "patch_area": "" if "patch_px" in varied else f"{row['patch_area']:.1%} of the area",
        "shape": row["shape"],
        "placement": f"placed {row['placement']}",
        "defence": f"after {row['defence']}" if row["defence"] else "undefended",
    }
    return ", ".join([row["attack"], *(parts[column] for column in varied if parts[column])])


def target_label(target: str, fidelity: str) -> str:
    """Return a target, with its fidelity where it is no device: ``tosa (specification)``."""
    return f"{target} ({fidelity})" if fidelity not in ("", "device") else target


def attack_label(attack: str, surrogate: str) -> str:
    """Return an attack and the surrogate of its patches: ``gap, crafted on float``."""
    return f"{attack}, crafted on {surrogate}" if surrogate else attack


def p_value(p: float) -> str:
    """Format a p-value to two digits."""
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"
