"""The loss from lab to device, taken apart: a chain of links from the float network in torch to each integer target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.artifact import PARTLY
from harness.results.columns import SERIES, SETTINGS
from harness.results.outcomes import Bools, Outcomes
from harness.results.paired import rise
from harness.results.stats import Difference, mean_over_patches
from harness.results.success import Kind
from patches.patch import CONTROLS

STAGES = (
    "float, PyTorch",
    "float, in the runtime",
    "fake-quantized",
    "integer, reference kernels",
    "integer, optimised kernels",
    "the same elsewhere",
    "other instruction set",
    "other version",
)
# kernels that compute every operator of an integer file in float, between its quantizers: onnxruntime's and OpenVINO's
IN_FLOAT = ("cpu-disabled", "float")
LAB, FLOAT_RUNTIME, FAKE_QUANT, REFERENCE, OPTIMISED, ELSEWHERE, OTHER_SET, OTHER_VERSION = range(8)
Columns = Mapping[str, Any]
OPEN = -1  # which of them depends on the file that a chain leads to


class Link(NamedTuple):
    """One stage on one place: its rates, and what changed since the link that it follows (None for the first).

    ``of`` is the position of that link. Success is over the images that every link of the chain classifies correctly,
    so that the changes add up.
    """

    stage: str
    artifact: str
    target: str
    of: int
    clean: float
    success: float
    clean_change: Difference | None
    success_change: Difference | None


class Chain(NamedTuple):
    """The links to one file's integers, for one attack; ``columns`` are those of its last cell, ``n`` its images."""

    columns: Columns
    kind: Kind
    patches: int
    n: int
    links: tuple[Link, ...]


class _Place(NamedTuple):
    """An artifact on a target: its stage, its columns, its clean cell, its patched cells by class and seed."""

    stage: int
    columns: Columns
    clean: int
    cells: Mapping[tuple[int, int], int]


class _Counted(NamedTuple):
    """A place's answers as hits: without the patch ``(1, images)``, and with it ``(patches, images)``."""

    right: Bools
    hits: Bools


def chains(known: Outcomes, versions: Mapping[str, str]) -> list[Chain]:
    """Return a chain for each integer file and attack; ``versions`` are the runtimes', by target."""
    out = []
    table = known.cells[~known.cells["attack"].isin(CONTROLS)]
    integer = table[(table["format"] != "torch") & (table["precision"] != "fp32")]
    candidates = {
        series: list(_candidates(known, rows[["artifact", "target", "seed"]]))
        for series, rows in table.groupby(["victim", *SERIES], sort=False, dropna=False)
    }
    for _, file in integer.groupby(["victim", "format", "precision", *SETTINGS, *SERIES], sort=False, dropna=False):
        last = known.cell(file.index[0])
        here = candidates[tuple(last[name] for name in ("victim", *SERIES))]
        places = sorted(_places(here, last, versions), key=lambda place: place.stage)
        if places and places[0].stage == LAB and len({place.stage for place in places}) > 1:
            out.append(_chain(known, places, last))
    return out


def _candidates(known: Outcomes, series: pd.DataFrame) -> Iterator[_Place]:
    """Yield the places that a series ran on, their stage open; those where a cell failed have no cells."""
    for _, rows in series.groupby(["artifact", "target"], sort=False):
        whole = rows.index if all(known.whole(row) for row in rows.index) else rows.index[:0]
        patches = zip(known.goals[whole].tolist(), rows.loc[whole, "seed"].tolist(), strict=True)
        cells = dict(zip(patches, whole.tolist(), strict=True))
        yield _Place(OPEN, known.cell(rows.index[0]), int(known.clean[rows.index[0]]), cells)


def _places(candidates: Sequence[_Place], last: Columns, versions: Mapping[str, str]) -> Iterator[_Place]:
    nowhere: Columns = dict.fromkeys(("arch", "cpu", "host"))
    home = next((place.columns for place in candidates if place.columns["format"] == "torch"), nowhere)
    first: dict[str, str] = {}
    for place in candidates:
        stage = _stage(place.columns, last, home)
        if stage == OPTIMISED:  # other versions are compared with a runtime's first
            version = versions.get(str(place.columns["target"]), "")
            if first.setdefault(place.columns["runtime"], version) != version:
                stage = OTHER_VERSION
        if stage is not None and place.cells:
            yield place._replace(stage=stage)


def _stage(columns: Columns, last: Columns, home: Columns) -> int | None:
    """Return the stage of a place; ``home`` are the columns of the lab, whose CPU has the usual instruction set."""
    same_settings = all(columns[name] == last[name] for name in ("precision", *SETTINGS))
    if columns["format"] == "torch":
        if columns["precision"] == "fp32":
            return LAB
        return FAKE_QUANT if same_settings else None
    if columns["format"] != last["format"]:
        return None
    at_home = all(columns[name] == home[name] for name in ("arch", "cpu"))
    if columns["precision"] == "fp32":
        return FLOAT_RUNTIME if at_home else None
    if not same_settings:
        return None
    if columns["kernels"] in IN_FLOAT:
        return FAKE_QUANT if at_home else None
    if columns["fidelity"].startswith("vendor"):
        return None
    if columns["fidelity"] == "specification" or "reference" in (columns["runtime"], columns["kernels"]):
        return REFERENCE
    if not at_home:
        return OTHER_SET
    return OPTIMISED if columns["host"] == home["host"] else ELSEWHERE


def _chain(known: Outcomes, places: Sequence[_Place], last: Columns) -> Chain:
    patches = sorted(set.intersection(*(set(place.cells) for place in places)))
    classes = np.array([goal for goal, _ in patches], np.int64)
    kind: Kind = "targeted" if last["target_class"] >= 0 else "untargeted"
    rows = [[place.cells[patch] for patch in patches] for place in places]
    common = np.logical_and.reduce([known.among_each(cells, kind) for cells in rows])
    counted = [
        _Counted(known.hits_each([place.clean], "clean"), known.hits_each(cells, kind))
        for place, cells in zip(places, rows, strict=True)
    ]
    links = tuple(_link(places, counted, i, common, classes) for i in range(len(places)))
    return Chain(last, kind, len(patches), int(common.sum()), links)


def _link(
    places: Sequence[_Place], counted: Sequence[_Counted], i: int, common: Bools, classes: NDArray[np.int64]
) -> Link:
    right, hits = counted[i]
    everywhere = np.ones_like(right)
    one = np.zeros(1, np.int64)
    clean_change = success_change = None
    of = _follows(places, i)
    if of >= 0:
        clean_change = rise(counted[of].right, right, everywhere, one)
        success_change = rise(counted[of].hits, hits, common, classes)
    return Link(
        stage=_named(places[i]),
        artifact=str(places[i].columns["artifact"]),
        target=str(places[i].columns["target"]),
        of=of,
        clean=mean_over_patches(right, everywhere),
        success=mean_over_patches(hits, common),
        clean_change=clean_change,
        success_change=success_change,
    )


def _named(place: _Place) -> str:
    is_partly = str(place.columns["precision"]).endswith(PARTLY)
    return STAGES[place.stage].replace("integer", "partly integer") if is_partly else STAGES[place.stage]


def _follows(places: Sequence[_Place], i: int) -> int:
    """Return the place before, -1 for none: of the last stage before it, preferably with its runtime and kernels."""
    stage = places[i].stage
    earlier = [k for k, place in enumerate(places[:i]) if place.stage < min(stage, ELSEWHERE)]
    if not earlier:
        return -1
    nearest = max(places[k].stage for k in earlier)
    candidates = [k for k in earlier if places[k].stage == nearest]
    for names in (("runtime", "kernels"), ("runtime",)):
        alike = [k for k in candidates if all(places[k].columns[n] == places[i].columns[n] for n in names)]
        if alike:
            return alike[0]
    return candidates[0]
