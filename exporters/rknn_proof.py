"""Prove that Rockchip's toolkit built a network with the ranges that it was given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from backends.device.errors import UserError
from exporters.calibration import Range, short
from exporters.rknn_build import Seen

OFF = 0.02  # steps
LOWEST, HIGHEST = -128, 127


def require_grids(path: Path, ranges: Mapping[str, Range], seen: Sequence[Seen], inner: Collection[str]) -> None:
    """Check that each layer's values are 8-bit integers of its range, with no coarser step; else raise a `UserError`.

    Those of ``inner`` layers need not be: what adds them up rounds but once.
    """
    for one in seen:
        if not one.rounded and one.layer in inner:
            continue
        if not (one.rounded and one.off < OFF and one.low >= LOWEST and one.high <= HIGHEST and one.stride in (0, 1)):
            low, high = ranges[one.layer]
            raise UserError(
                f"{path}: what rknn-toolkit2 built does not have the range of {short(one.layer)!r} that its QuantSpec "
                f"implies, {low:g} to {high:g}: values lie up to {one.off:.2g} steps beside its integers, from "
                f"{one.low} to {one.high}, {one.stride} apart"
            )
