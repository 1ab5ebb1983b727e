"""What is left of a patch's success: each integer target against the lab, patch by patch and image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.results.columns import SERIES
from harness.results.metrics import is_lab, own_control
from harness.results.outcomes import Bools, Outcomes
from harness.results.stats import Difference, Estimate, Floats, difference, mean_rate, ratio
from harness.results.success import Kind
from patches.patch import CONTROLS
from patches.surrogate import Surrogate

PLACE = ("victim", "artifact", "target", *SERIES)
ON_BOTH = ("attack", "target_class", "seed", "patch", "patch_px", "shape", "placement", "defence")


class Survival(NamedTuple):
    """One place's patches of a series, and the same patches in the lab, on the images that both classify correctly.

    ``lab`` and ``device`` are success, ``gain`` is the lab's success beyond
    noise, ``share`` is the device's success beyond noise over the lab's; ``noise`` is the device's mean, NaN where no
    noise was measured, and then ``gain`` and ``share`` are of plain success. ``n`` are the images of one patch, at
    most.
    """

    artifact: str
    target: str
    defence: str
    kind: Kind
    patches: tuple[str, ...]
    n: int
    lab: Estimate
    device: Estimate
    gain: Difference
    share: Estimate
    noise: float


class _Pair(NamedTuple):
    """The rows of one patch in the lab and on a device, and of the noise that stands in for it there."""

    lab: int
    device: int
    lab_noise: tuple[int, ...]
    device_noise: tuple[int, ...]


def on_integers(cells: pd.DataFrame) -> pd.Series:
    """Return which rows are of a file that computes in integers, not of torch."""
    return ~cells["precision"].isin(["fp32", ""]) & (cells["format"] != "torch")


def survivals(known: Outcomes) -> list[Survival]:
    """Compare each series on each integer target with the lab: the victim's float network in torch.

    Where a victim has none, as a file that was brought, the lab is the network that its surrogate names. Patches that
    ran on one side only are left out.
    """
    pairs = dict(_pairs(known))
    attacked = known.cells.loc[list(pairs)]
    groups = attacked.groupby(list(PLACE), sort=False, dropna=False)
    return [_survival(known, [pairs[row] for row in members.index]) for _, members in groups]


def _pairs(known: Outcomes) -> Iterator[tuple[int, _Pair]]:
    """Yield each row of a device with its pair, if the patch ran whole in the lab too."""
    cells = known.cells
    labs: dict[tuple[object, ...], dict[str, int]] = {}
    attacked = ~cells["attack"].isin(CONTROLS)
    for row in np.flatnonzero(attacked & is_lab(cells)).tolist():
        if known.whole(row):
            labs.setdefault(_patch_of(cells, row), {}).setdefault(str(cells["victim"].iloc[row]), row)
    noise = _noise_rows(known)
    victims = dict(zip(cells["artifact"], cells["victim"], strict=True))
    for row in np.flatnonzero(attacked & on_integers(cells)).tolist():
        there = labs.get(_patch_of(cells, row), {})
        networks = [str(cells["victim"].iloc[row]), *_crafted_on(str(cells["surrogate"].iloc[row]), victims)]
        lab = next((there[network] for network in networks if network in there), None)
        if lab is not None and known.whole(row):
            yield row, _Pair(lab, row, noise[lab], noise[row])


def _patch_of(cells: pd.DataFrame, row: int) -> tuple[object, ...]:
    return tuple(cells[list(ON_BOTH)].iloc[row])


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


def _survival(known: Outcomes, pairs: Sequence[_Pair]) -> Survival:
    labs, devices = [pair.lab for pair in pairs], [pair.device for pair in pairs]
    columns = known.cells.iloc[devices[0]]
    goals = known.goals[devices]
    kind: Kind = "targeted" if goals[0] >= 0 else "untargeted"
    among = known.among_each(labs, kind) & known.among_each(devices, kind)
    lab, device = known.hits_each(labs, kind), known.hits_each(devices, kind)
    lab_gain, device_gain = lab.astype(np.float64), device.astype(np.float64)
    noise = np.nan
    if kind == "targeted" and all(pair.lab_noise and pair.device_noise for pair in pairs):
        lab_gain -= _noise_hits(known, [pair.lab_noise for pair in pairs], kind)
        noisy = _noise_hits(known, [pair.device_noise for pair in pairs], kind)
        device_gain -= noisy
        noise = float(noisy[among].mean())
    return Survival(
        artifact=str(columns["artifact"]),
        target=str(columns["target"]),
        defence=str(columns["defence"]),
        kind=kind,
        patches=tuple(str(known.cells["patch"].iloc[row]) for row in devices),
        n=int(among.sum(axis=1).max()),
        lab=mean_rate(lab, among, goals),
        device=mean_rate(device, among, goals),
        gain=difference(lab_gain, among, goals, "patches and images"),
        share=ratio(device_gain, lab_gain, among, goals),
        noise=noise,
    )


def _noise_hits(known: Outcomes, draws: Sequence[tuple[int, ...]], kind: Kind) -> Floats:
    """Return the share of each patch's noise draws that hit each image, float ``(patches, images)``."""
    hits: list[Bools] = [known.hits_each(rows, kind) for rows in draws]
    return np.array([each.mean(axis=0) for each in hits])
