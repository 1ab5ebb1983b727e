"""The columns of cells.csv and records.parquet."""

from __future__ import annotations

# The columns that identify a cell, in the order of cells.csv and records.parquet.
CELL_COLUMNS = (
    "victim", "precision", "format", "signature", "calibration", "granularity", "artifact",
    "surrogate", "attack", "target_class", "seed", "patch_px", "patch_area", "shape", "placement", "defence", "split",
    "runtime", "target", "host", "arch", "cpu", "threads", "kernels", "patch",
)  # fmt: skip
# What a record adds: one row per image and cell.
RECORD_COLUMNS = ("image", "label", "status", "pred", "margin")
