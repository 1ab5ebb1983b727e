"""From records to outcomes: tables of any number of rows, gathered piece by piece into a matrix for each split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.errors import UserError
from harness.results.columns import CELL_COLUMNS, CELL_NUMBERS, OF_MANY_PASSES, RECORD_COLUMNS
from harness.results.outcomes import ABSENT, ERROR, Bools, Ints, Outcomes, Passes, clean_rows

JUDGED = tuple(column for column in RECORD_COLUMNS if column != "margin")  # what outcomes are made of, beside cells
Splits = Mapping[str, Outcomes]  # the outcomes of a run, by split
CellKey = tuple[Any, ...]  # the values of `CELL_COLUMNS`
SPLIT = CELL_COLUMNS.index("split")


class _Block(NamedTuple):
    """The records of one piece and split: values of some cells ``(cells,)`` on some images, as rows and columns."""

    cells: Ints
    images: Ints
    preds: NDArray[np.signedinteger[Any]]
    certified: NDArray[np.int8] | None


class _Split:
    """The records of a split so far."""

    def __init__(self) -> None:
        self.row_of: dict[CellKey, int] = {}
        self.column_of: dict[str, int] = {}
        self.order: list[int] = []
        self.labels: list[int] = []
        self.errors: dict[int, str] = {}
        self.blocks: list[_Block] = []
        self.passes: dict[int, tuple[float, int]] = {}  # their sum and how many, by cell

    def add(self, piece: pd.DataFrame, cell: Ints, keys: list[CellKey], order: Ints) -> None:
        """Add records, each of the ``cell`` of so many ``keys``; ``order`` is where each cell first appeared."""
        rows = np.array([self.row_of.setdefault(key, len(self.row_of)) for key in keys], np.int64)
        self.order += [int(order[i]) for i in np.flatnonzero(rows >= len(self.order))]
        image, names, first = _factorized(piece["image"])
        if names != list(self.column_of):
            columns = np.array([self.column_of.setdefault(name, len(self.column_of)) for name in names], np.int64)
        else:
            columns = np.arange(len(names))
        self.labels += [0] * (len(self.column_of) - len(self.labels))
        for column, label in zip(columns.tolist(), piece["label"].to_numpy()[first].tolist(), strict=True):
            self.labels[column] = label
        status = piece["status"]
        failed = np.flatnonzero((status != "ok").to_numpy(bool))
        values = piece["pred"].to_numpy(np.int32, copy=True)
        values[failed] = ERROR
        np.maximum(values, ERROR, out=values)
        few = values.max(initial=0) <= np.iinfo(np.int16).max
        preds = np.full((len(rows), len(columns)), ABSENT, np.int16 if few else np.int32)
        preds[cell, image] = values
        if np.count_nonzero(preds != ABSENT) < len(piece):
            _refuse_twice(piece, cell, image, keys)
        bad, at = np.unique(cell[failed], return_index=True)
        for row, message in zip(rows[bad].tolist(), status.iloc[failed[at]].tolist(), strict=True):
            self.errors.setdefault(row, str(message))
        certified = self._add_passes(piece, cell, image, rows, preds.shape) if OF_MANY_PASSES[0] in piece else None
        self.blocks.append(_Block(rows, columns, preds, certified))

    def _add_passes(
        self, piece: pd.DataFrame, cell: Ints, image: Ints, rows: Ints, shape: tuple[int, int]
    ) -> NDArray[np.int8]:
        sums = np.bincount(cell, weights=piece["passes"].to_numpy(np.float64), minlength=len(rows))
        for row, total, n in zip(rows.tolist(), sums.tolist(), np.bincount(cell).tolist(), strict=True):
            before, count = self.passes.get(row, (0.0, 0))
            self.passes[row] = (before + total, count + n)
        certified = np.full(shape, ABSENT, np.int8)
        has_verdict = (piece["verdict"] != "").to_numpy(bool)
        certified[cell[has_verdict], image[has_verdict]] = piece["certified"].to_numpy(np.int8)[has_verdict]
        return certified

    def outcomes(self) -> Outcomes:
        """Return all of it; blocks are given up one by one, so that memory holds them but once."""
        cells = pd.DataFrame(list(self.row_of), columns=list(CELL_COLUMNS)).astype(CELL_NUMBERS)
        shape = (len(self.row_of), len(self.column_of))
        preds = np.full(shape, ABSENT, np.result_type(np.int16, *(block.preds for block in self.blocks)))
        certified = np.full(shape, ABSENT, np.int8) if self.passes else None
        while self.blocks:
            block = self.blocks.pop()
            at = np.ix_(block.cells, block.images)
            old = preds[at]
            if ((old != ABSENT) & (block.preds != ABSENT)).any():
                raise UserError("records: an image twice in a cell")
            preds[at] = np.maximum(old, block.preds)
            if certified is not None and block.certified is not None:
                certified[at] = np.maximum(certified[at], block.certified)
        passes = None
        if certified is not None:
            mean = [total / n for total, n in (self.passes[row] for row in range(len(cells)))]
            passes = Passes(np.array(mean, np.float64), certified)
        return Outcomes(
            cells=cells,
            images=np.array(list(self.column_of), np.str_),
            labels=np.array(self.labels, np.int64),
            preds=preds,
            clean=clean_rows(cells),
            errors=self.errors,
            order=np.array(self.order, np.int64),
            passes=passes,
        )


def gathered(pieces: Iterable[pd.DataFrame]) -> dict[str, Outcomes]:
    """Return the outcomes of each split; images and cells in the order in which they first appear.

    A piece has `CELL_COLUMNS`, `JUDGED` and, of defences of many passes, `OF_MANY_PASSES`. An image twice in a cell is
    a `UserError`.
    """
    splits: dict[str, _Split] = {}
    seen = 0
    for piece in pieces:
        if missing := {*CELL_COLUMNS, *JUDGED} - set(piece.columns):
            raise UserError(f"records: expected columns {', '.join(sorted(missing))}, got {', '.join(piece.columns)}")
        cell, keys = _cells(piece)
        of_split = np.array([key[SPLIT] for key in keys], np.str_)
        for split in dict.fromkeys(of_split.tolist()):
            own = of_split == split
            number = np.cumsum(own) - 1
            here = slice(None) if own.all() else own[cell]
            splits.setdefault(split, _Split()).add(
                piece[here] if not own.all() else piece,
                number[cell[here]],
                [key for key, mine in zip(keys, own, strict=True) if mine],
                seen + np.flatnonzero(own),
            )
        seen += len(keys)
    return {split: found.outcomes() for split, found in splits.items()}


def outcomes(records: pd.DataFrame | Splits, split: str = "evaluate") -> Outcomes:
    """Return the outcomes of a split; of one without a record, outcomes without a cell."""
    found = by_split(records).get(split)
    return found or _Split().outcomes()


def by_split(records: pd.DataFrame | Splits) -> Splits:
    """Return the outcomes of records by split; what is gathered already is returned as it is."""
    return gathered([records]) if isinstance(records, pd.DataFrame) else records


def _cells(piece: pd.DataFrame) -> tuple[Ints, list[CellKey]]:
    """Return the cell of each record, and the key of each cell, in order of appearance.

    Records of a cell stand together nearly always, so that only the first of each stretch has to be looked at.
    """
    is_first: Bools = np.zeros(len(piece), bool)
    is_first[:1] = True
    columns = [_coded(piece[column]) for column in CELL_COLUMNS]
    for values, _ in columns:
        is_first[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(is_first)
    number: dict[CellKey, int] = {}
    keys = zip(*(_plain(values[starts], words) for values, words in columns), strict=True)
    group = np.array([number.setdefault(key, len(number)) for key in keys], np.int64)
    return np.repeat(group, np.diff(starts, append=len(piece))), list(number)


def _coded(column: pd.Series) -> tuple[NDArray[Any], list[str]]:
    """Return the numbers of a column, which has no words, or codes and the words that they stand for."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(), []
    coded = column.array if isinstance(column.array, pd.Categorical) else pd.Categorical(column)
    return np.asarray(coded.codes), [str(word) for word in coded.categories.tolist()]


def _factorized(column: pd.Series) -> tuple[Ints, list[str], Ints]:
    """Return the number of each record's name in order of appearance, the names, and where each first appears."""
    by_code = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype(str).astype("category")
    codes, n = np.asarray(by_code.cat.codes), len(by_code)
    at = np.full(len(by_code.cat.categories), n)
    at[codes[::-1]] = np.arange(n - 1, -1, -1)  # of equal codes the last one stays: the first record
    order = np.argsort(at)[: np.count_nonzero(at < n)]
    number = np.empty(len(at), np.int64)
    number[order] = np.arange(len(order))
    return number[codes], by_code.cat.categories.to_numpy(object)[order].astype(str).tolist(), at[order]


def _plain(values: NDArray[Any], words: list[str]) -> list[Any]:
    """Return plain values, of which NaN is one and the same, so that it equals itself in a key."""
    if words:
        return [words[code] for code in values.tolist()]
    return [math.nan if value != value else value for value in values.tolist()]


def _refuse_twice(piece: pd.DataFrame, cell: Ints, image: Ints, keys: list[CellKey]) -> None:
    at = int(np.flatnonzero(pd.DataFrame({"cell": cell, "image": image}).duplicated())[0])
    names = dict(zip(CELL_COLUMNS, keys[cell[at]], strict=True))
    where = " / ".join(str(names[column]) for column in ("artifact", "target", "patch"))
    raise UserError(f"records: image {piece['image'].iloc[at]!r} twice in the cell {where}")
