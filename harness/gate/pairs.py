"""Pair each group of patched cells in the baseline with the same group in the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gate.causes import cell_changes
from harness.gate.faults import cell_name, missing_or_failed, patch_faults
from harness.report.labels import target_label
from harness.results.columns import SERIES
from harness.results.frozen import Frozen
from harness.results.success import Kind
from patches.patch import CONTROLS
from patches.surrogate import Surrogate

ROLE = ["victim", "format", "precision"]  # a new file of the same role stands in for one that is gone


@dataclass(frozen=True, eq=False)
class Pair:
    """An attack (or none) on an artifact on a target, in baseline and run.

    ``columns`` are those of the group's first cell. ``cells`` are (row in the baseline, row in the run), a pair for
    each patch. ``anew`` says that the patches were recrafted for other weights; ``changes`` are what else differs.
    ``gaps`` are cells that are missing or failed, ``other_patches`` why the patches cannot be compared.
    """

    columns: Mapping[str, Any]
    cells: tuple[tuple[int, int], ...]
    anew: bool
    changes: tuple[str, ...]
    gaps: tuple[str, ...]
    other_patches: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the two cannot be compared."""
        return self.gaps + self.other_patches

    @property
    def kind(self) -> Kind:
        """What is counted: the success of the patches, or without any, clean accuracy."""
        if self.columns["attack"] == "none":
            return "clean"
        return "targeted" if self.columns["target_class"] >= 0 else "untargeted"

    @property
    def name(self) -> str:
        """The name in messages: ``ARTIFACT on TARGET, ATTACK``."""
        return group_name(self.columns)


def group_name(columns: Mapping[str, Any]) -> str:
    """Return what messages call a group of cells: ``ARTIFACT on TARGET, ATTACK``."""
    where = target_label(columns["target"], columns["fidelity"])
    return f"{columns['artifact']} on {where}{series_name(columns)}"


def series_name(columns: Mapping[str, Any]) -> str:
    """Return what follows a place in the name of a group: ``, ATTACK``, with what its patches are; empty for clean."""
    name = ""
    if columns["attack"] != "none":
        name += f", {columns['attack']}"
        if columns["surrogate"] not in ("", "float"):
            name += f" crafted on {columns['surrogate']}"
        name += f" {columns['patch_px']} px {columns['placement']}"
    if columns["defence"]:
        name += f", after {columns['defence']}"
    return name


def pairs(base: Frozen, run: Frozen) -> list[Pair]:
    """Return a pair for each group of the baseline's cells, controls apart."""
    row_of = {key: row for row, key in enumerate(_keys(run, {}))}
    keys = _keys(base, _replacements(base, run))
    out = []
    for rows in _groups(base):
        columns = base.outcomes.cell(rows[0])
        cells = tuple((row, row_of[keys[row]]) for row in rows if keys[row] in row_of)
        missing = [cell_name(base, row) for row in rows if keys[row] not in row_of]
        gaps = missing_or_failed(base, run, cells, missing)
        anew, reasons = patch_faults(base, run, columns, cells)
        differ = cell_changes(base, run, cells[0]) if cells else []
        out.append(Pair(columns, cells, anew, tuple(differ), tuple(gaps), tuple(reasons)))
    return out


def image_order(base: Frozen, run: Frozen) -> NDArray[np.int64]:
    """Return the position in the run of each image of the baseline."""
    position = {image: i for i, image in enumerate(run.outcomes.images)}
    return np.array([position[image] for image in base.outcomes.images], np.int64)


def _groups(frozen: Frozen) -> Iterator[list[int]]:
    table = frozen.outcomes.cells
    judged = table[~table["attack"].isin([control for control in CONTROLS if control != "none"])]
    for _, rows in judged.groupby(["victim", "artifact", "target", *SERIES], sort=False, dropna=False):
        yield list(rows.index)


def _keys(frozen: Frozen, replacements: Mapping[str, str]) -> list[tuple[object, ...]]:
    table = frozen.outcomes.cells
    columns = ["victim", "artifact", "target", *SERIES, "target_class", "seed"]
    replaced = table.assign(
        artifact=[replacements.get(name, name) for name in table["artifact"]],
        surrogate=[str(Surrogate.parse(words)) for words in table["surrogate"]],  # older runs have other words
    )
    return list(replaced[columns].itertuples(index=False, name=None))


def _replacements(base: Frozen, run: Frozen) -> dict[str, str]:
    """Return for each artifact that is gone the one new artifact of its role, where there is exactly one of each."""
    before, after = (f.outcomes.cells.drop_duplicates("artifact").set_index("artifact")[ROLE] for f in (base, run))
    gone = before.drop(after.index, errors="ignore")
    new = after.drop(before.index, errors="ignore")
    out = {}
    for role, old in gone.groupby(ROLE):
        candidates = new.index[(new == list(role)).all(axis=1)]
        if len(old) == len(candidates) == 1:
            out[str(old.index[0])] = str(candidates[0])
    return out
