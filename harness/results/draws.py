"""Which draws of noise control a cell, and what they reach."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results.columns import NOISE
from harness.results.outcomes import Bools, Ints, Outcomes


class NoiseDraws:
    """The noise draws of each cell of some outcomes; ``group`` says which cells share theirs, by `own_control`."""

    def __init__(self, known: Outcomes, group: Ints) -> None:
        self._known = known
        self._group = group
        rows = np.flatnonzero((known.cells["attack"] == "noise").to_numpy(bool))
        self._rows: dict[int, list[int]] = {}
        for row, of in zip(rows.tolist(), group[rows].tolist(), strict=True):
            self._rows.setdefault(of, []).append(row)

    def reached(self, cells: Ints) -> NDArray[np.float64]:
        """Return the share of each cell's draws that reach its target class, by image; 0 where there are none."""
        groups, which = np.unique(self._group[cells], return_inverse=True)
        shares = np.zeros((len(groups), len(self._known.images)))
        for share, group in zip(shares, groups.tolist(), strict=True):
            if rows := self._rows.get(group):
                share[:] = self._known.hits_each(rows, "targeted").mean(axis=0)
        return np.asarray(shares[which])

    def all_have(self, rate: Bools) -> Bools:
        """Return which cells have draws, all of which have a rate."""
        whole = {group for group, rows in self._rows.items() if rate[rows].all()}
        return np.array([group in whole for group in self._group.tolist()], bool)


def own_control(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what a cell and its controls share; where an attack chose its place, that includes whose place it is."""
    of = pd.Series([str(name).partition("@")[2] for name in cells["patch"]], cells.index, dtype=object)
    chosen = cells["placement"].astype(str).str.startswith("best") & (of == "")
    keys = cells[[*NOISE, "target_class"]].astype(object).fillna("")
    return keys.assign(place_of=of.where(~chosen, cells["patch"].astype(str)))
