"""The gap between lab and device, taken apart: from the float network in torch to each integer target, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results.outcomes import Kind, Outcomes
from harness.results.paired import SERIES, matrix, rise
from harness.results.stats import Difference, Estimate, mean_rate
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
FAKE_QUANT, REFERENCE, OPTIMISED, ELSEWHERE, OTHER_SET, OTHER_VERSION = range(2, 8)
SETTINGS = ["signature", "calibration", "granularity"]


class Step(NamedTuple):
    """One stage on one place: its rates, and what changed since the step that it follows (None for the first).

    ``of`` is the position of that step. Success is over the images that every step of the chain classifies correctly,
    so that the changes add up.
    """

    stage: str
    artifact: str
    target: str
    of: int
    clean: Estimate
    success: Estimate
    clean_change: Difference | None
    success_change: Difference | None


class Chain(NamedTuple):
    """The steps to one file's integers, for one attack; ``columns`` are those of its last cell, ``n`` its images."""

    columns: Mapping[str, Any]
    kind: Kind
    patches: int
    n: int
    steps: tuple[Step, ...]


class _Place(NamedTuple):
    """An artifact on a target: its stage, its clean cell and its patched ones by class and seed."""

    stage: int
    columns: Mapping[str, Any]
    clean: int
    cells: Mapping[tuple[int, int], int]


def chains(known: Outcomes, versions: Mapping[str, str]) -> list[Chain]:
    """A chain for each integer file and attack; ``versions`` are the targets' runtimes', by name of the target."""
    out = []
    table = known.cells[~known.cells["attack"].isin(CONTROLS)]
    integer = table[(table["format"] != "torch") & (table["precision"] != "fp32")]
    for _, file in integer.groupby(["victim", "format", "precision", *SETTINGS, *SERIES], sort=False, dropna=False):
        last = dict(file.iloc[0])
        here = table[_equal(table, last, ["victim", *SERIES])]
        places = sorted(_places(known, here, last, versions), key=lambda place: place.stage)
        if places and places[0].stage == 0 and len({place.stage for place in places}) > 1:
            out.append(_chain(known, places, last))
    return out


def _places(
    known: Outcomes, table: pd.DataFrame, last: Mapping[str, Any], versions: Mapping[str, str]
) -> Iterator[_Place]:
    lab = table[table["format"] == "torch"]
    home = dict(lab.iloc[0]) if len(lab) else {}
    first: dict[str, str] = {}
    for (_, target), rows in table.groupby(["artifact", "target"], sort=False):
        columns = dict(rows.iloc[0])
        stage = _stage(columns, last, home)
        if stage == OPTIMISED:  # the first of a runtime is what other versions are held against
            version = versions.get(str(target), "")
            if first.setdefault(columns["runtime"], version) != version:
                stage = OTHER_VERSION
        whole = [row for row in rows.index if known.whole(row)]
        if stage is not None and len(whole) == len(rows):
            cells = {(int(known.goals[row]), int(known.cells["seed"].iloc[row])): row for row in whole}
            yield _Place(stage, columns, int(known.clean[whole[0]]), cells)


def _stage(columns: Mapping[str, Any], last: Mapping[str, Any], home: Mapping[str, Any]) -> int | None:
    """The stage of a place; ``home`` are the columns of the lab, whose CPU has the usual instruction set."""
    settings = all(columns[name] == last[name] for name in ("precision", *SETTINGS))
    if columns["format"] == "torch":
        return 0 if columns["precision"] == "fp32" else FAKE_QUANT if settings else None
    if columns["format"] != last["format"]:
        return None
    here = all(columns[name] == home.get(name) for name in ("arch", "cpu"))
    if columns["precision"] == "fp32":
        return 1 if here else None
    if not settings:
        return None
    if columns["kernels"] == "cpu-disabled":
        # onnxruntime as the file stands: every operator in float between its quantizers
        return FAKE_QUANT if here else None
    if "reference" in (columns["runtime"], columns["kernels"]):
        return REFERENCE
    if not here:
        return OTHER_SET
    return OPTIMISED if columns["host"] == home["host"] else ELSEWHERE


def _chain(known: Outcomes, places: Sequence[_Place], last: Mapping[str, Any]) -> Chain:
    patches = sorted(set.intersection(*(set(place.cells) for place in places)))
    kind: Kind = "targeted" if last["target_class"] >= 0 else "untargeted"
    rows = [[place.cells[patch] for patch in patches] for place in places]
    common = np.logical_and.reduce([matrix(known, cells, kind, "among") for cells in rows])
    classes = np.array([goal for goal, _ in patches], np.int64)
    steps: list[Step] = []
    for i, place in enumerate(places):
        of = _follows(places, i)
        hits, right = matrix(known, rows[i], kind, "hits"), matrix(known, [place.clean], "clean", "hits")
        everywhere, one = np.ones_like(right), np.zeros(1, np.int64)
        clean_change = success_change = None
        if of >= 0:
            before, was_right = (
                matrix(known, rows[of], kind, "hits"),
                matrix(known, [places[of].clean], "clean", "hits"),
            )
            clean_change = rise(was_right, right, everywhere, one)
            success_change = rise(before, hits, common, classes)
        steps.append(
            Step(
                STAGES[place.stage], str(place.columns["artifact"]), str(place.columns["target"]), of,
                mean_rate(right, everywhere, one), mean_rate(hits, common, classes), clean_change, success_change,
            )
        )  # fmt: skip
    return Chain(last, kind, len(patches), int(common.sum()), tuple(steps))


def _follows(places: Sequence[_Place], i: int) -> int:
    """The step that a place is held against: of the last stage before it, one of its runtime and kernels if any."""
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


def _equal(table: pd.DataFrame, values: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.bool_]:
    return np.asarray(np.logical_and.reduce([(table[name] == values[name]).to_numpy(bool) for name in names]))
