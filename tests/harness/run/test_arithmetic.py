"""Integers that onnxruntime answered, recorded from the demo's U8S8 file: exact with VNNI, saturated on a Haswell."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from harness.results.integer_checks import MAX_STEPS
from harness.run.arithmetic import compare
from patches.twins import Twin

PIXELS = np.zeros((4, 8, 8, 3), np.uint8)
EXACT = np.array([
    [229, 80, 106, 56, 125, 71, 132, 85, 141, 137], [146, 55, 109, 12, 230, 100, 111, 156, 109, 142],
    [89, 112, 205, 121, 116, 100, 131, 91, 113, 99], [118, 49, 95, 117, 99, 161, 96, 144, 149, 151],
])  # fmt: skip
SATURATED = np.array([
    [235, 69, 95, 66, 111, 75, 138, 73, 161, 146], [149, 35, 93, 25, 213, 112, 117, 139, 140, 158],
    [95, 97, 192, 129, 103, 101, 142, 71, 135, 112], [123, 36, 84, 118, 93, 165, 101, 133, 164, 163],
])  # fmt: skip


class Recorded:
    """A twin whose integers are known."""

    def __init__(self) -> None:
        self.asked = 0

    def integers(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[1:] == (3, 8, 8)
        self.asked += len(pixels)
        return torch.from_numpy(EXACT[self.asked - len(pixels) : self.asked])


@pytest.mark.parametrize(("answered", "equal", "largest"), [(EXACT, 1.0, 0), (EXACT + 1, 0.0, 1), (SATURATED, 0.0, 31)])
def test_saturated_sums_are_told_from_exact_ones(answered: np.ndarray, equal: float, largest: int) -> None:
    found = compare(cast(Twin, Recorded()), PIXELS, answered)
    assert (found.images, found.outputs, found.equal, found.largest) == (4, 40, equal, largest)
    assert (found.largest > MAX_STEPS) == (answered is SATURATED)
