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


def _every_two(known: Outcomes, attacked: pd.DataFrame, alike: Sequence[str], apart: str) -> list[Paired]:
    """Compare every two cells that are ``alike`` in these columns, and not in the one that sets them ``apart``."""
    found = []
    for _, table in attacked.groupby(list(alike), sort=False, dropna=False):
        for (_, one), (_, other) in combinations(table.groupby(apart, sort=False), 2):
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
    among = known.among_each(a, kind) & known.among_each(b, kind)
    before, after = (known.hits_each(rows, kind) for rows in (a, b))
    success = rise(before, after, among, known.goals[a])
    right = [known.hits_each([known.clean[rows[0]]], "clean") for rows in (a, b)]
    clean = rise(right[0], right[1], np.ones_like(right[0]), np.zeros(1, np.int64))
    first = one.iloc[0]
    attack = str(first["attack"])
    if first["surrogate"]:
        attack += f", crafted on {first['surrogate']}"
    if first["defence"]:
        attack += f", after {first['defence']}"
    yield Paired(
        victim=str(first["victim"]),
        attack=attack,
        artifacts=(str(first["artifact"]), str(other["artifact"].iloc[0])),
        targets=(str(first["target"]), str(other["target"].iloc[0])),
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
