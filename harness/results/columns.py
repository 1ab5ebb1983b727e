"""The columns of cells.csv and records.parquet, and the groups of them that results are compared by."""

from __future__ import annotations

from harness.results.entries import Cells
from harness.results.success import Kind

# The columns that identify a cell, in the order of cells.csv and records.parquet.
CELL_COLUMNS = (
    "victim", "precision", "format", "signature", "calibration", "granularity", "artifact",
    "surrogate", "attack", "target_class", "seed", "patch_px", "patch_area", "shape", "placement", "defence", "split",
    "runtime", "target", "host", "fidelity", "arch", "cpu", "threads", "kernels", "patch",
)  # fmt: skip
# Those of them that are no texts.
CELL_NUMBERS = {"target_class": int, "seed": int, "patch_px": int, "patch_area": float, "threads": int}
ADDED = ("fidelity",)  # those that older tables lack: empty there
LARGEST = 2**31 - 1  # of their integers
# What a record adds: one row per image and cell.
RECORD_COLUMNS = ("image", "label", "status", "pred", "margin")
# What it also adds in a run with a defence that runs the network many times: why it answers so, after how many passes,
# and whether no patch could change that: 1 or 0.
OF_MANY_PASSES = ("verdict", "passes", "certified")
# And in a run with a fleet: the address of the board that answered, empty on any other target.
OF_FLEETS = ("board",)
# Each rate with what it counts; its denominator is the column ``n_KIND``.
RATES: dict[str, Kind] = {
    "clean_accuracy": "clean",
    "targeted_success": "targeted",
    "untargeted_success": "untargeted",
}
# What a target reports of itself: unknown for a replay that crashed, so not part of a row's identity.
MACHINE = ("arch", "cpu", "kernels")
# A series: the patches of one attack, which differ in target class and seed alone.
SERIES = ("surrogate", "attack", "patch_px", "shape", "placement", "defence")
# How a file was quantized, beside its precision.
SETTINGS = ("signature", "calibration", "granularity")
# What a cell shares with the clean cell that it is judged by, with the float network's, and with its noise controls.
CLEAN = ("victim", "artifact", "target", "defence", "split")
FLOAT = ("victim", "surrogate", "attack", "target_class", "seed", "patch_px", "shape", "placement", "defence", "split")
NOISE = (*CLEAN, "patch_px", "shape", "placement")
# What is averaged over: all but what differs from patch to patch.
OVER_PATCHES = tuple(c for c in CELL_COLUMNS if c not in ("target_class", "seed", "patch", *MACHINE))


def check_cells(cells: Cells) -> Cells:
    """Return the cells that a file lists, with columns that were added since.

    A `ValueError` names a value of another type than its column's.
    """
    whole: Cells = [{**dict.fromkeys(ADDED, ""), **cell} for cell in cells]
    for row, cell in enumerate(whole, 1):
        for column in CELL_COLUMNS:
            kind = CELL_NUMBERS.get(column, str)
            value = cell.get(column)
            if type(value) is not kind or (isinstance(value, int) and abs(value) > LARGEST):
                raise ValueError(f"cell {row}, {column}: expected {kind.__name__}, got {value!r:.100}")
    return whole
