"""Two places beside each other on the same patches and images: calibrations of one file, or targets of one artifact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results.outcomes import Kind, Outcomes
from harness.results.stats import Difference, difference, holm
from patches.patch import CONTROLS

Bools = NDArray[np.bool_]
SERIES = ["surrogate", "attack", "patch_px", "shape", "placement", "defence"]
MADE = ["victim", "format", "precision", "signature", "granularity", "target", *SERIES]  # all but the calibration


class Paired(NamedTuple):
    """What changes from one artifact to the other; ``p`` is Holm-corrected over all that were compared together."""

    victim: str
    target: str
    attack: str  # with what its patches were made on, and a defence
    artifacts: tuple[str, str]
    patches: int
    n: int
    clean: Difference
    success: Difference
    p: float


def calibrations(known: Outcomes) -> list[Paired]:
    """Each two files that differ in their calibration alone, on a target, for an attack."""
    made = known.cells[~known.cells["attack"].isin(CONTROLS) & (known.cells["calibration"] != "")]
    found = []
    for _, table in made.groupby(MADE, sort=False, dropna=False):
        files = list(table.groupby("artifact", sort=False))
        for (_, one), (_, other) in combinations(files, 2):
            found += list(_paired(known, one, other))
    adjusted = holm([pair.p for pair in found])
    return [pair._replace(p=float(p)) for pair, p in zip(found, adjusted, strict=True)]


def _paired(known: Outcomes, one: pd.DataFrame, other: pd.DataFrame) -> Iterator[Paired]:
    both = one.reset_index().merge(other.reset_index(), on=["target_class", "seed"])
    pairs = both[["index_x", "index_y"]].to_numpy(np.int64)
    pairs = np.array([pair for pair in pairs if all(known.whole(row) for row in pair)], np.int64).reshape(-1, 2)
    if not len(pairs):
        return
    a, b = pairs.T
    kind: Kind = "targeted" if known.goals[a[0]] >= 0 else "untargeted"
    among = matrix(known, a, kind, "among") & matrix(known, b, kind, "among")
    success = rise(matrix(known, a, kind, "hits"), matrix(known, b, kind, "hits"), among, known.goals[a])
    right = [matrix(known, [known.clean[rows[0]]], "clean", "hits") for rows in (a, b)]
    clean = rise(right[0], right[1], np.ones_like(right[0]), np.zeros(1, np.int64))
    first = one.iloc[0]
    more = [f", {word} {first[c]}" for word, c in (("crafted on", "surrogate"), ("after", "defence")) if first[c]]
    names = (str(first["artifact"]), str(other["artifact"].iloc[0]))
    where = (str(first["victim"]), str(first["target"]), "".join([str(first["attack"]), *more]))
    yield Paired(*where, names, len(a), int(among.sum()), clean, success, success.p)


def matrix(known: Outcomes, rows: Sequence[int] | NDArray[np.int64], kind: Kind, which: str) -> Bools:
    """Hits of cells, or the images that count for them (``which``: hits, among): bool ``(cells, images)``."""
    return np.array([getattr(known, which)(int(row), kind) for row in rows], bool)


def rise(
    a: NDArray[np.bool_], b: NDArray[np.bool_], among: NDArray[np.bool_], classes: NDArray[np.int64]
) -> Difference:
    """The paired change from one's hits to the other's; over patches where a class has two, else over images."""
    return difference(b.astype(np.float64) - a, among, classes, "patches and images")
