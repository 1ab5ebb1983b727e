"""Attacks whose best patch is known."""

from typing import NamedTuple

import pytest
from torch import nn


class Entry(NamedTuple):
    """An attack as the table has it: its options for a short run, and whether each image gets a patch of its own."""

    attack: str
    options: dict
    per_image: bool = False

    @property
    def steps(self):
        return self.options["steps"] * self.options.get("restarts", 1)


TABLE = [
    Entry("gap", {"steps": 40, "batch": 8}),
    Entry("gap", {"steps": 40, "batch": 8}, per_image=True),
    Entry("gap", {"steps": 60, "batch": 8, "rotation": 30, "scale": 0.2, "brightness": 0.1, "contrast": 0.2}),
    Entry("lavan", {"steps": 40, "batch": 8}),
    Entry("lavan", {"steps": 40, "batch": 8}, per_image=True),
    Entry("pgd", {"steps": 30, "batch": 8}, per_image=True),
    Entry("pgd", {"steps": 15, "batch": 8, "restarts": 2, "momentum": 0.0, "step_size": 0.1}, per_image=True),
]


class Shades(nn.Module):
    """Logits are ten times the mean of red, green and blue: the best patch for a class is its pure colour."""

    def forward(self, x):
        return 10 * x.mean((2, 3))


every = pytest.mark.parametrize("entry", TABLE, ids=lambda e: f"{e.attack}{'-each' * e.per_image}-{len(e.options)}")
