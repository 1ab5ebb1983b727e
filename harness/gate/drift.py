"""Drift: predictions that changed although nothing else did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.gate.causes import environment_changes, same_file
from harness.gate.pairs import Pair, image_order
from harness.results.frozen import Frozen


@dataclass(frozen=True)
class Drift:
    """Predictions of a pair that flipped although artifact, patches, pixels and environment are the same."""

    name: str
    flips: int
    n: int
    image: str


def drift(base: Frozen, run: Frozen, paired: Sequence[Pair]) -> list[Drift]:
    """Return the pairs whose predictions flipped without a cause, each with the first image."""
    order = image_order(base, run)
    out = []
    for pair in paired:
        if pair.faults or pair.anew or environment_changes(base, run, str(pair.columns["target"])):
            continue
        if not all(same_file(base, run, cells) for cells in pair.cells):
            continue
        flipped = np.array([base.outcomes.preds[a] != run.outcomes.preds[b][order] for a, b in pair.cells])
        if flipped.any():
            image = str(base.outcomes.images[flipped.any(axis=0)][0])
            out.append(Drift(pair.name, int(flipped.sum()), flipped.size, image))
    return out
