"""What changed from one run to another, paired by cell and image, with the gate's own statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.gate.compare import Measured, measure
from harness.gate.faults import run_faults
from harness.gate.pairs import Pair, group_name, image_order, pairs, series_name
from harness.results.columns import SERIES
from harness.results.frozen import Frozen
from harness.results.stats import holm
from harness.results.success import Kind
from patches.patch import CONTROLS


@dataclass(frozen=True)
class Change:
    """A rate in both runs and its paired change; ``p`` is two-sided, and corrected over all rates of the two runs.

    ``causes`` are what else differs between the two groups of cells.
    """

    name: str
    kind: Kind
    measured: Measured
    patches: int
    p: float
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two runs: their ``images`` in common, the ``changes``, greatest first, and the names of ``equal`` groups.

    ``unmatched`` says which cells have no partner, or failed; ``notes`` what to know of all changes.
    """

    images: int
    changes: tuple[Change, ...]
    equal: tuple[str, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def causes(self) -> list[tuple[str, list[str]]]:
        """What else differs between the cells that changed, each with their names."""
        names_of: dict[str, list[str]] = {}
        for change in self.changes:
            for cause in change.causes:
                names_of.setdefault(cause, []).append(change.name)
        return list(names_of.items())


def compare(before: Frozen, after: Frozen) -> Comparison:
    """Compare two runs on the images that both judged under the same label."""
    images = _common(before, after)
    notes = [f"{len(images)} images in common, of {_counts(before, after)}"] if _counts(before, after) else []
    before = replace(before, outcomes=before.outcomes.on(images))
    after = replace(after, outcomes=after.outcomes.on(images))
    if not len(images):
        return Comparison(0, (), (), (), ("no image in common, so nothing can be paired",))
    notes += run_faults(before, after)
    after, stand_ins = _aligned(before, after)
    notes += [f"{old} of {before.source} is compared with {new} of {after.source}" for old, new in stand_ins]
    paired = pairs(before, after)
    changes = list(_changes(before, after, paired))
    equal = [change for change in changes if change.measured.equal]
    others = sorted((c for c in changes if not c.measured.equal), key=lambda c: -abs(c.measured.change.value))
    unmatched = [f"{pair.name}: {gap}" for pair in paired for gap in pair.gaps if pair.cells]
    unmatched += _missing([pair.name for pair in paired if not pair.cells], after.source)
    unmatched += _missing(_new(after, paired), before.source)
    return Comparison(len(images), tuple(others), tuple(c.name for c in equal), tuple(unmatched), tuple(notes))


def _common(before: Frozen, after: Frozen) -> list[str]:
    labels = dict(zip(after.outcomes.images.tolist(), after.outcomes.labels.tolist(), strict=True))
    own = zip(before.outcomes.images.tolist(), before.outcomes.labels.tolist(), strict=True)
    return [image for image, label in own if labels.get(image) == label]


def _counts(before: Frozen, after: Frozen) -> str:
    """Return how many images each run has; empty if they are the same."""
    ours, theirs = (set(frozen.outcomes.images.tolist()) for frozen in (before, after))
    return f"{len(ours)} and {len(theirs)}" if ours != theirs else ""


def _aligned(before: Frozen, after: Frozen) -> tuple[Frozen, list[tuple[str, str]]]:
    """Let a series of the later run stand in for one that is gone, where an attack has exactly one of each.

    So a patch of another size, place or surrogate is compared with the one that it replaces. Returns the later run with
    the columns of the earlier, and what both are called.
    """
    old, new = (_series(frozen) for frozen in (before, after))
    table = after.outcomes.cells.copy()
    stand_ins = []
    for attack in old["attack"].unique():
        gone = _without(old[old["attack"] == attack], new)
        come = _without(new[new["attack"] == attack], old)
        if len(gone) == len(come) == 1:
            here = (table[list(SERIES)] == come.iloc[0]).all(axis=1)
            table.loc[here, list(SERIES)] = gone.iloc[0].tolist()
            stand_ins.append((_series_name(gone), _series_name(come)))
    return replace(after, outcomes=replace(after.outcomes, cells=table)), stand_ins


def _series(frozen: Frozen) -> pd.DataFrame:
    table = frozen.outcomes.cells
    return table.loc[~table["attack"].isin(CONTROLS), list(SERIES)].drop_duplicates()


def _without(series: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    known = set(others.itertuples(index=False, name=None))
    return series[[row not in known for row in series.itertuples(index=False, name=None)]]


def _series_name(only: pd.DataFrame) -> str:
    (values,) = only.itertuples(index=False, name=None)
    return series_name(dict(zip(SERIES, values, strict=True))).removeprefix(", ")


def _missing(names: Sequence[str], source: Path) -> list[str]:
    """Return in a line for each series where it is missing from a run."""
    places_of: dict[str, list[str]] = {}
    for name in names:
        place, _, series = name.partition(", ")
        places_of.setdefault(series or "clean images", []).append(place)
    return [f"{series}: missing from {source}: {', '.join(places)}" for series, places in places_of.items()]


def _changes(before: Frozen, after: Frozen, paired: Sequence[Pair]) -> Iterator[Change]:
    order = image_order(before, after)
    found = []
    for pair in paired:
        whole = tuple((a, b) for a, b in pair.cells if before.outcomes.whole(a) and after.outcomes.whole(b))
        others = _other_patches(before, after, whole)
        judged = replace(pair, cells=whole, anew=others)
        if whole and (measured := measure(before, after, pair.kind, judged, order, 1)):
            causes = (*pair.changes, "other patches") if others else pair.changes
            patches = 0 if pair.kind == "clean" else len(whole)
            name = _name(after, pair, whole[0][1])
            found.append(Change(name, pair.kind, measured, patches, measured.change.p, causes))
    adjusted = holm(np.array([change.p for change in found]))
    for change, p in zip(found, adjusted, strict=True):
        yield replace(change, p=float(p))


def _other_patches(before: Frozen, after: Frozen, cells: Sequence[tuple[int, int]]) -> bool:
    """Return whether the two runs replayed different patches; then what is paired is their class and seed."""
    for a, b in cells:
        ours, theirs = before.outcomes.cell(a)["patch"], after.outcomes.cell(b)["patch"]
        if before.patch(ours).sha256 != after.patch(theirs).sha256:
            return True
    return False


def _name(after: Frozen, pair: Pair, row: int) -> str:
    """Return the name of a pair; of an artifact that stands in for another of its role, both."""
    artifact = after.outcomes.cell(row)["artifact"]
    if artifact == pair.columns["artifact"]:
        return pair.name
    return f"{pair.name} (now {artifact})"


def _new(after: Frozen, paired: Sequence[Pair]) -> list[str]:
    """Return the names of the groups that no cell of the run before is paired with."""
    matched = {row for pair in paired for _, row in pair.cells}
    cells = (after.outcomes.cell(row) for row in range(len(after.outcomes.cells)) if row not in matched)
    names = [group_name(cell) for cell in cells if cell["attack"] not in set(CONTROLS) - {"none"}]
    return list(dict.fromkeys(names))
