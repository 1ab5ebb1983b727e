"""Predictions as a matrix, cells x images: what everything reads that sets image beside image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results.columns import CELL_COLUMNS

Kind = Literal["clean", "targeted", "untargeted"]
ERROR, ABSENT = -1, -2  # what a prediction is where there is none: it failed; there is no record of it
# What a cell shares with the clean one that it is judged by.
CLEAN = ("victim", "artifact", "target", "defence", "split")
# What a target said of itself: unknown for a replay that died, so not part of a row's identity.
MACHINE = ("arch", "cpu", "kernels")
OVER_PATCHES = tuple(c for c in CELL_COLUMNS if c not in ("target_class", "seed", "patch", *MACHINE))


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each cell answered to each image of one split.

    ``cells`` has a row a cell (`CELL_COLUMNS`), ``preds`` is int32 ``(cells, images)`` with `ERROR` and `ABSENT`,
    ``images`` and ``labels`` are ``(images,)``, ``clean`` the row of each cell's clean one, -1 where there is none.
    """

    cells: pd.DataFrame
    images: NDArray[np.str_]
    labels: NDArray[np.int64]
    preds: NDArray[np.int32]
    clean: NDArray[np.int64]

    @cached_property
    def goals(self) -> NDArray[np.int64]:
        """Each cell's target class, -1 for none."""
        return self.cells["target_class"].to_numpy(np.int64)

    def whole(self, row: int) -> bool:
        """Whether a cell and its clean one have a prediction on every image: otherwise it has no rates."""
        judge = self.clean[row]
        return bool(judge >= 0 and (self.preds[row] >= 0).all() and (self.preds[judge] >= 0).all())

    def among(self, row: int, kind: Kind) -> NDArray[np.bool_]:
        """The images that count for a rate of a cell: all, or those that it classifies correctly without the patch."""
        if kind == "clean":
            return np.ones(len(self.images), bool)
        right = self.preds[self.clean[row]] == self.labels
        goal = self.goals[row]
        return np.asarray(right & (self.labels != goal) & (goal >= 0) if kind == "targeted" else right)

    def hits(self, row: int, kind: Kind) -> NDArray[np.bool_]:
        """The images on which a cell's answer counts: right without a patch, the target class, or wrong."""
        if kind == "targeted":
            return np.asarray(self.preds[row] == self.goals[row])
        judged = self.clean[row] if kind == "clean" else row
        return np.asarray((self.preds[judged] == self.labels) == (kind == "clean"))


def outcomes(records: pd.DataFrame, split: str = "evaluate") -> Outcomes:
    """The outcomes of a split's records; images and cells in the order in which they first appear."""
    here = records[records["split"] == split]
    cell = here.groupby(list(CELL_COLUMNS), sort=False, dropna=False, observed=True).ngroup().to_numpy(np.int64)
    cells = here[list(CELL_COLUMNS)].iloc[np.unique(cell, return_index=True)[1]].reset_index(drop=True)
    cells = cells.astype(dict.fromkeys(cells.columns[cells.dtypes == "category"], str))
    image, images = pd.factorize(here["image"].astype(str))
    labels = np.zeros(len(images), np.int64)
    labels[image] = here["label"]
    preds = np.full((len(cells), len(images)), ABSENT, np.int32)
    preds[cell, image] = np.where(here["status"] == "ok", here["pred"], ERROR)
    return Outcomes(cells, np.asarray(images, np.str_), labels, preds, clean_rows(cells))


def clean_rows(cells: pd.DataFrame) -> NDArray[np.int64]:
    """The row of each cell's clean one; -1 where there is none."""
    keys = list(cells[list(CLEAN)].itertuples(index=False, name=None))
    unpatched = (cells["attack"] == "none").to_numpy(bool)
    of_place = {key: row for row, key in enumerate(keys) if unpatched[row]}
    return np.array([of_place.get(key, -1) for key in keys], np.int64)
