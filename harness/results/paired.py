"""Paired comparisons on the same patches and images: two calibrations of one file, or one file on two targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results.columns import SERIES
from harness.results.outcomes import Bools, Outcomes
from harness.results.stats import Difference, difference, holm
from harness.results.success import Kind
from patches.patch import CONTROLS

ALL_BUT_CALIBRATION = ("victim", "format", "precision", "signature", "granularity", "target", *SERIES)


class Paired(NamedTuple):
    """What changes from one artifact, or target, to the other; ``p`` is Holm-corrected over all pairs compared."""

    victim: str
    attack: str  # with the surrogate of its patches, and the defence
    artifacts: tuple[str, str]
    targets: tuple[str, str]
    patches: int
    n: int
    rates: tuple[float, float]  # of success
    clean: Difference
    success: Difference
    p: float


def calibrations(known: Outcomes) -> list[Paired]:
    """Compare every two files that differ in their calibration alone, for each target and attack."""
    attacked = known.cells[~known.cells["attack"].isin(CONTROLS) & (known.cells["calibration"] != "")]
    return _every_two(known, attacked, ALL_BUT_CALIBRATION, "artifact")


def targets(known: Outcomes) -> list[Paired]:
    """Compare every two targets, for each file and attack."""
    attacked = known.cells[~known.cells["attack"].isin(CONTROLS)]
    return _every_two(known, attacked, ("artifact", *SERIES), "target")


def changed(known: Outcomes, one: Sequence[int], other: Sequence[int]) -> Paired | None:
    """Compare two groups of cells by their rows, whatever their files and targets; None without a patch on both."""
    return next(_paired(known, _patches(known), one, other), None)


def _patches(known: Outcomes) -> list[tuple[int, int]]:
    return list(zip(known.goals.tolist(), known.cells["seed"].tolist(), strict=True))


def _every_two(known: Outcomes, attacked: pd.DataFrame, alike: Sequence[str], apart: str) -> list[Paired]:
    """Compare every two cells that are ``alike`` in these columns, and not in the one that sets them ``apart``."""
    patches = _patches(known)
    groups: dict[tuple[object, ...], list[list[int]]] = {}  # of rows
    for key, cells in attacked.groupby([*alike, apart], sort=False, dropna=False)["seed"]:
        groups.setdefault(key[:-1], []).append(cells.index.tolist())
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]
    found = [change for one, other in pairs for change in _paired(known, patches, one, other)]
    adjusted = holm([pair.p for pair in found])
    return [pair._replace(p=float(p)) for pair, p in zip(found, adjusted, strict=True)]


def _paired(
    known: Outcomes, patches: Sequence[tuple[int, int]], one: Sequence[int], other: Sequence[int]
) -> Iterator[Paired]:
    """Yield the change from some cells to others, if a patch ran whole on both; ``patches`` are those of all cells."""
    there: dict[tuple[int, int], list[int]] = {}
    for row in filter(known.whole, other):
        there.setdefault(patches[row], []).append(row)
    pairs = [(row, twin) for row in filter(known.whole, one) for twin in there.get(patches[row], ())]
    if not pairs:
        return
    a, b = np.array(pairs, np.int64).T
    kind: Kind = "targeted" if known.goals[a[0]] >= 0 else "untargeted"
    among = known.among_each(a, kind) & known.among_each(b, kind)
    before, after = (known.hits_each(rows, kind) for rows in (a, b))
    success = rise(before, after, among, known.goals[a])
    right = [known.hits_each([known.clean[rows[0]]], "clean") for rows in (a, b)]
    clean = rise(right[0], right[1], np.ones_like(right[0]), np.zeros(1, np.int64))
    first, last = known.cell(one[0]), known.cell(other[0])
    attack = str(first["attack"])
    if first["surrogate"]:
        attack += f", crafted on {first['surrogate']}"
    if first["defence"]:
        attack += f", after {first['defence']}"
    yield Paired(
        victim=str(first["victim"]),
        attack=attack,
        artifacts=(str(first["artifact"]), str(last["artifact"])),
        targets=(str(first["target"]), str(last["target"])),
        patches=len(a),
        n=int(among.sum()),
        rates=(float(before[among].mean()), float(after[among].mean())),
        clean=clean,
        success=success,
        p=success.p,
    )


def rise(a: Bools, b: Bools, among: Bools, classes: NDArray[np.int64]) -> Difference:
    """Return the paired change from hits ``a`` to hits ``b``; over patches where a class has two, else over images."""
    return difference(b.astype(np.float64) - a, among, classes, "patches and images")
