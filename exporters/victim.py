"""A victim: a trained classifier under attack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Victim:
    """A trained classifier under attack: architecture, weights, preprocessing.

    ``weights`` is a state dict in our own layout (RGB order, no prefixes), ``mean`` and ``std`` are those of RGB in
    [0, 1]; `harness.networks.victims.load` puts them into the network. ``input_size`` is (height, width).
    """

    name: str
    model: str
    weights: Path
    sha256: str
    classes: int
    input_size: tuple[int, int]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
