"""Predictions as a matrix, cells by images: what every rate, interval and comparison is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results import success
from harness.results.columns import CLEAN
from harness.results.stats import Estimate
from harness.results.success import Kind

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Rows = Sequence[int] | NDArray[np.int64]
ERROR, ABSENT = -1, -2  # predictions of an image that failed, and of one without a record


@dataclass(frozen=True, eq=False)
class Passes:
    """What defences that run the network many times said: each cell's mean passes for an answer, float ``(cells,)``.

    ``certified`` is int8 ``(cells, images)``: 1 with a certificate, 0 without one, `ABSENT` without a verdict.
    """

    mean: NDArray[np.float64]
    certified: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each cell answered to each image of one split.

    ``cells`` has one row per cell (`CELL_COLUMNS`), ``preds`` is int16, or int32 of very many classes, ``(cells,
    images)`` with `ERROR` and `ABSENT`, ``images`` and ``labels`` are ``(images,)``, ``clean`` is the row of each
    cell's clean cell, -1 where there is none. ``errors`` are the messages of the cells with one: its first image's that
    failed. ``order`` tells where each cell stands among those of all splits; ``estimates`` are those that
    `harness.results.intervals.estimate` has made.
    """

    cells: pd.DataFrame
    images: NDArray[np.str_]
    labels: Ints
    preds: NDArray[np.signedinteger[Any]]
    clean: Ints
    errors: Mapping[int, str] = field(default_factory=dict)
    order: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    passes: Passes | None = None
    estimates: dict[tuple[Kind | int, ...], Estimate] = field(default_factory=dict)

    @cached_property
    def goals(self) -> Ints:
        """Each cell's target class, -1 for none."""
        return self.cells["target_class"].to_numpy(np.int64)

    def cell(self, row: int) -> dict[str, Any]:
        """Return the columns of a cell as plain values; a row of ``cells`` itself takes hundreds of times as long."""
        return {name: values[row] for name, values in self.columns.items()}

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """The columns of ``cells`` as plain values, ten times as fast to go through; cells share equal ones."""
        return {str(name): _values(column) for name, column in self.cells.items()}

    def on(self, images: Sequence[str]) -> Outcomes:
        """Return the outcomes on some of the images alone."""
        row_of = {image: row for row, image in enumerate(self.images.tolist())}
        rows = np.array([row_of[image] for image in images], np.int64)
        return Outcomes(self.cells, self.images[rows], self.labels[rows], self.preds[:, rows], self.clean, self.errors)

    def whole(self, row: int) -> bool:
        """Return whether a cell and its clean cell have a prediction for every image; otherwise it has no rates."""
        clean = self.clean[row]
        return bool(clean >= 0 and self._answered[row] and self._answered[clean])

    @cached_property
    def _answered(self) -> Bools:
        """Which cells have a prediction for every image."""
        return np.asarray(self.preds.min(axis=1, initial=0) >= 0)

    def among(self, row: int, kind: Kind) -> Bools:
        """Return which images count for a rate of a cell."""
        return np.asarray(self.among_each([row], kind)[0])

    def hits(self, row: int, kind: Kind) -> Bools:
        """Return on which images a cell's answer counts as a hit."""
        return np.asarray(self.hits_each([row], kind)[0])

    def among_each(self, rows: Rows, kind: Kind) -> Bools:
        """Return `among` of several cells: bool ``(cells, images)``."""
        chosen = np.asarray(rows, np.int64)
        if kind == "clean":
            return np.ones((len(chosen), len(self.images)), bool)
        return success.counts(kind, self.preds[self.clean[chosen]], self.labels, self.goals[chosen, None])

    def hits_each(self, rows: Rows, kind: Kind) -> Bools:
        """Return `hits` of several cells: bool ``(cells, images)``."""
        chosen = np.asarray(rows, np.int64)
        answering = self.clean[chosen] if kind == "clean" else chosen
        return success.hits(kind, self.preds[answering], self.labels, self.goals[chosen, None])


def _values(column: pd.Series) -> list[Any]:
    codes, values = pd.factorize(column, use_na_sentinel=False)
    shared: list[Any] = np.asarray(values, object)[codes].tolist()
    return shared


def clean_rows(cells: pd.DataFrame) -> Ints:
    """Return the row of each cell's clean cell; -1 where there is none."""
    keys = list(cells[list(CLEAN)].itertuples(index=False, name=None))
    unpatched = (cells["attack"] == "none").to_numpy(bool)
    of_place = {key: row for row, key in enumerate(keys) if unpatched[row]}
    return np.array([of_place.get(key, -1) for key in keys], np.int64)
