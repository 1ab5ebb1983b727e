"""Which images went where: the ids of each split with their hash, kept with the run; no image is in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

from backends.device.errors import UserError

SPLITS = ("calibration", "craft", "select", "evaluate")
FILE = "splits.json"
NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


def describe(ids: Mapping[str, Sequence[str]], per_image: Mapping[str, Sequence[str]] = NONE) -> dict[str, Any]:
    """The content of splits.json: for each split ``n``, ``sha256`` over the ids in their order, and the ids.

    ``ids`` holds those of `SPLITS`, and of ``train``, what victims may have been trained on: it has to be disjoint from
    the images that are counted, and may hold those that calibrate and craft. An overlap is a `UserError`.

    ``per_image`` are patches made for each image, by name with the ids of those images: the very images that are
    counted, one and all, which is what such an attack is; anything else is a `UserError`, and their names are kept.
    """
    pairs = [*combinations(SPLITS, 2), *([("train", "evaluate")] if "train" in ids else [])]
    for one, other in pairs:
        if both := sorted(set(ids[one]) & set(ids[other])):
            raise UserError(
                f"splits {one} and {other}: expected disjoint images, got {len(both)} in both, the first {both[0]!r}"
            )
    for name in SPLITS:
        if twice := len(ids[name]) - len(set(ids[name])):
            raise UserError(f"split {name}: expected each image once, got {twice} of them again")
    for patch, own in per_image.items():
        if list(own) != list(ids["evaluate"]):
            raise UserError(
                f"patch {patch}: expected one for each of the {len(ids['evaluate'])} evaluation images, in order, "
                f"got {len(own)}"
            )
    return {
        "schema": 1,
        "made_on_evaluate": sorted(per_image),
        "splits": {name: {"n": len(ids[name]), "sha256": digest(ids[name]), "ids": list(ids[name])} for name in SPLITS},
    }


def digest(ids: Sequence[str]) -> str:
    """Hex sha256 over ids in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
