"""Describe the splits of a run: the ids of each with their hash; no image is in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import TypedDict

from backends.device.errors import UserError

SPLITS = ("calibration", "craft", "select", "evaluate")
FILE = "splits.json"
NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


class SplitEntry(TypedDict):
    """One split: how many images, the sha256 over their ids in order, and the ids."""

    n: int
    sha256: str
    ids: list[str]


class SplitsFile(TypedDict):
    """The content of splits.json; ``made_on_evaluate`` names the per-image patches."""

    schema: int
    made_on_evaluate: list[str]
    splits: dict[str, SplitEntry]


def describe(ids: Mapping[str, Sequence[str]], per_image: Mapping[str, Sequence[str]] = NONE) -> SplitsFile:
    """Return the content of splits.json: for each split ``n``, the ids, and the ``sha256`` over them in order.

    ``ids`` holds those of `SPLITS` and of ``train``, on which victims may have been trained: disjoint from evaluate,
    but not from calibration and craft. An overlap is a `UserError`.

    ``per_image`` maps the name of each per-image patch to its images, which must be exactly the evaluation images.
    """
    pairs = [*combinations(SPLITS, 2), *([("train", "evaluate")] if "train" in ids else [])]
    for one, other in pairs:
        if both := sorted(set(ids[one]) & set(ids[other])):
            raise UserError(
                f"splits {one} and {other}: expected disjoint images, got {len(both)} in both, the first {both[0]!r}"
            )
    for name in SPLITS:
        if twice := len(ids[name]) - len(set(ids[name])):
            raise UserError(f"split {name}: expected each image once, got {twice} of them twice")
    for patch, own in per_image.items():
        if list(own) != list(ids["evaluate"]):
            raise UserError(
                f"patch {patch}: expected one patch for each of the {len(ids['evaluate'])} evaluation images, "
                f"in order, got {len(own)}"
            )
    return {
        "schema": 1,
        "made_on_evaluate": sorted(per_image),
        "splits": {name: {"n": len(ids[name]), "sha256": digest(ids[name]), "ids": list(ids[name])} for name in SPLITS},
    }


def digest(ids: Sequence[str]) -> str:
    """Return the sha256 over ids in their order, in hex."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
