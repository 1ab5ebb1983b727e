"""Predictions as a matrix, cells by images: the input of everything that compares image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results import success
from harness.results.columns import CELL_COLUMNS, CLEAN
from harness.results.success import Kind

Bools = NDArray[np.bool_]
Rows = Sequence[int] | NDArray[np.int64]
ERROR, ABSENT = -1, -2  # predictions of an image that failed, and of one without a record


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each cell answered to each image of one split.

    ``cells`` has one row per cell (`CELL_COLUMNS`), ``preds`` is int32 ``(cells, images)`` with `ERROR` and `ABSENT`,
    ``images`` and ``labels`` are ``(images,)``, ``clean`` is the row of each cell's clean cell, -1 where there is none.
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

    def on(self, images: Sequence[str]) -> Outcomes:
        """Return the outcomes on some of the images alone."""
        row_of = {image: row for row, image in enumerate(self.images.tolist())}
        rows = np.array([row_of[image] for image in images], np.int64)
        return replace(self, images=self.images[rows], labels=self.labels[rows], preds=self.preds[:, rows])

    def whole(self, row: int) -> bool:
        """Return whether a cell and its clean cell have a prediction for every image; otherwise it has no rates."""
        clean = self.clean[row]
        return bool(clean >= 0 and (self.preds[row] >= 0).all() and (self.preds[clean] >= 0).all())

    def among(self, row: int, kind: Kind) -> Bools:
        """Return which images count for a rate of a cell."""
        return success.counts(kind, self.preds[self.clean[row]], self.labels, self.goals[row])

    def hits(self, row: int, kind: Kind) -> Bools:
        """Return on which images a cell's answer counts as a hit."""
        answering = self.clean[row] if kind == "clean" else row
        return success.hits(kind, self.preds[answering], self.labels, self.goals[row])

    def among_each(self, rows: Rows, kind: Kind) -> Bools:
        """Return `among` of several cells: bool ``(cells, images)``."""
        return self._matrix([self.among(row, kind) for row in rows])

    def hits_each(self, rows: Rows, kind: Kind) -> Bools:
        """Return `hits` of several cells: bool ``(cells, images)``."""
        return self._matrix([self.hits(row, kind) for row in rows])

    def _matrix(self, rows: list[Bools]) -> Bools:
        return np.array(rows, bool).reshape(len(rows), len(self.images))


def outcomes(records: pd.DataFrame, split: str = "evaluate") -> Outcomes:
    """Return the outcomes of a split's records; images and cells in the order in which they first appear."""
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
    """Return the row of each cell's clean cell; -1 where there is none."""
    keys = list(cells[list(CLEAN)].itertuples(index=False, name=None))
    unpatched = (cells["attack"] == "none").to_numpy(bool)
    of_place = {key: row for row, key in enumerate(keys) if unpatched[row]}
    return np.array([of_place.get(key, -1) for key in keys], np.int64)
