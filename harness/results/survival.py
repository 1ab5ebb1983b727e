"""What is left of a patch's success: each integer target against the lab, patch by patch and image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from backends.device.artifact import PARTLY
from harness.results.columns import SERIES
from harness.results.draws import own_control
from harness.results.intervals import estimate
from harness.results.metrics import is_lab
from harness.results.outcomes import Outcomes
from harness.results.stats import Difference, Estimate, Floats, difference, mean_over_patches, ratio
from harness.results.success import Kind
from patches.patch import CONTROLS
from patches.surrogate import Surrogate

PLACE = ("victim", "artifact", "target", *SERIES)
ON_BOTH = ("attack", "target_class", "seed", "patch", "patch_px", "shape", "placement", "defence")


class Reach(NamedTuple):
    """The success of one place's patches of a series, on the images that this place classifies correctly.

    ``gain`` is success beyond noise; plain success where no noise was measured, and then ``noise``, its mean success,
    is NaN. ``n`` are the images, summed over the patches.
    """

    artifact: str
    target: str
    defence: str
    kind: Kind
    patches: tuple[str, ...]
    success: Estimate
    gain: Difference
    noise: float
    n: int


class Survival(NamedTuple):
    """The same patches in the lab and on a device; ``share`` is what the device keeps of the lab's gain.

    Each side's rates are its own; ``share`` is paired: over the ``n`` images that both classify correctly, summed over
    the patches.
    """

    lab: Reach
    device: Reach
    share: Estimate
    n: int


class _Pair(NamedTuple):
    """The rows of one patch in the lab and on a device."""

    lab: int
    device: int


def on_integers(cells: pd.DataFrame) -> pd.Series:
    """Return which rows are of a file that computes in integers, at least partly, and not of torch."""
    return ~cells["precision"].isin(["fp32", ""]) & (cells["format"] != "torch")


def partly_integer(cells: pd.DataFrame) -> pd.Series:
    """Return which rows are of a file that is integer but for some operators."""
    return cells["precision"].str.endswith(PARTLY)


def survivals(known: Outcomes) -> list[Survival]:
    """Compare each series on each integer target with the lab: the victim's float network in torch.

    Where a victim has none, as a file that was brought, the lab is the network that its surrogate names. Patches that
    ran on one side only are left out.
    """
    pairs = dict(_pairs(known))
    noise = _noise_rows(known)
    groups = known.cells.loc[list(pairs)].groupby(list(PLACE), sort=False, dropna=False)["seed"]

    @cache
    def in_lab(rows: tuple[int, ...]) -> Reach:
        """Many devices have one lab."""
        return _reach(known, rows, noise)

    return [_survival(known, [pairs[row] for row in members.index], noise, in_lab) for _, members in groups]


def without_lab(known: Outcomes) -> list[Reach]:
    """Return what each series reaches on each integer target where none of its patches ran in a lab."""
    pairs = dict(_pairs(known))
    noise = _noise_rows(known)
    attacked = known.cells[_attacked(known) & on_integers(known.cells)]
    groups = attacked.groupby(list(PLACE), sort=False, dropna=False)["seed"]
    rows = [members.index.tolist() for _, members in groups if not any(row in pairs for row in members.index)]
    whole = [[row for row in each if known.whole(row)] for each in rows]
    return [_reach(known, each, noise) for each in whole if each]


def _attacked(known: Outcomes) -> pd.Series:
    return ~known.cells["attack"].isin(CONTROLS)


def _pairs(known: Outcomes) -> Iterator[tuple[int, _Pair]]:
    """Yield each row of a device with its pair, if the patch ran whole in the lab too."""
    cells = known.cells
    labs: dict[tuple[object, ...], dict[str, int]] = {}
    attacked = _attacked(known)
    patches = list(zip(*(known.columns[column] for column in ON_BOTH), strict=True))
    victim, surrogate = known.columns["victim"], known.columns["surrogate"]
    for row in np.flatnonzero(attacked & is_lab(cells)).tolist():
        if known.whole(row):
            labs.setdefault(patches[row], {}).setdefault(victim[row], row)
    victims = dict(zip(known.columns["artifact"], victim, strict=True))
    for row in np.flatnonzero(attacked & on_integers(cells)).tolist():
        there = labs.get(patches[row], {})
        networks = [victim[row], *_crafted_on(surrogate[row], victims)]
        lab = next((there[network] for network in networks if network in there), None)
        if lab is not None and known.whole(row):
            yield row, _Pair(lab, row)


def _crafted_on(words: str, victims: Mapping[str, str]) -> Iterator[str]:
    """Yield the networks that a surrogate is made of; ``victims`` are the artifacts'."""
    surrogate = Surrogate.parse(words)
    for one in surrogate.members or (surrogate,):
        yield victims.get(one.of, "") if one.is_of_artifact else one.of


def _noise_rows(known: Outcomes) -> list[tuple[int, ...]]:
    """Return for each row those of its noise draws; none where one of them failed."""
    keys = own_control(known.cells)
    groups = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    draws: dict[int, tuple[int, ...]] = {}
    for row in np.flatnonzero(known.cells["attack"] == "noise").tolist():
        group = int(groups[row])
        draws[group] = (*draws.get(group, ()), row)
    draws = {group: rows for group, rows in draws.items() if all(known.whole(row) for row in rows)}
    return [draws.get(int(group), ()) for group in groups]


def _survival(
    known: Outcomes,
    pairs: Sequence[_Pair],
    noise: Sequence[tuple[int, ...]],
    in_lab: Callable[[tuple[int, ...]], Reach],
) -> Survival:
    labs, devices = [pair.lab for pair in pairs], [pair.device for pair in pairs]
    kind = _kind(known, devices)
    among = known.among_each(labs, kind) & known.among_each(devices, kind)
    both = [_noise_hits(known, rows, noise, kind) for rows in (labs, devices)]
    gains = [known.hits_each(rows, kind).astype(np.float64) for rows in (labs, devices)]
    if both[0] is not None and both[1] is not None:
        gains = [gains[0] - both[0], gains[1] - both[1]]
    share = ratio(gains[1], gains[0], among, known.goals[devices])
    return Survival(in_lab(tuple(labs)), _reach(known, devices, noise), share, int(among.sum()))


def _reach(known: Outcomes, rows: Sequence[int], noise: Sequence[tuple[int, ...]]) -> Reach:
    columns = known.cell(rows[0])
    kind = _kind(known, rows)
    among, hits, goals = known.among_each(rows, kind), known.hits_each(rows, kind), known.goals[list(rows)]
    noisy = _noise_hits(known, rows, noise, kind)
    gain = hits.astype(np.float64) if noisy is None else hits - noisy
    return Reach(
        artifact=str(columns["artifact"]),
        target=str(columns["target"]),
        defence=str(columns["defence"]),
        kind=kind,
        patches=tuple(known.columns["patch"][row] for row in rows),
        success=estimate(known, rows, kind),
        gain=difference(gain, among, goals, "patches and images"),
        noise=np.nan if noisy is None else mean_over_patches(noisy, among),
        n=int(among.sum()),
    )


def _kind(known: Outcomes, rows: Sequence[int]) -> Kind:
    return "targeted" if known.goals[rows[0]] >= 0 else "untargeted"


def _noise_hits(known: Outcomes, rows: Sequence[int], noise: Sequence[tuple[int, ...]], kind: Kind) -> Floats | None:
    """Return the share of each patch's noise draws that hit each image, float ``(patches, images)``; None without."""
    if kind == "untargeted" or not all(noise[row] for row in rows):
        return None
    hits = {draws: known.hits_each(draws, kind).mean(axis=0) for draws in {noise[row] for row in rows}}
    return np.array([hits[noise[row]] for row in rows])
