"""Patches judged by plain numpy: pasting, then counting."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import nn

from backends.device.bundle import paste
from harness.networks.victims import logits
from patches import placement
from patches.patch import UNPOSED


@dataclass(frozen=True, eq=False)
class Case:
    """A network, the images to craft on, and others to judge by."""

    network: nn.Module
    craft: tuple[np.ndarray, np.ndarray]
    judge: tuple[np.ndarray, np.ndarray]
    data_dir: Path | None = None


def success(case, patch, target_class, seed=0, place="random"):
    """Share brought to the target class, of the images classified right without the patch and of other classes.

    Where the target class is None: share brought to any wrong class.
    """
    return float(hits(case, patch, target_class, seed, place).mean())


def hits(case, patch, target_class, seed=0, place="random", pose=UNPOSED):
    """Which of the images that count are brought to the target class; a patch for each image counts its own images."""
    labels = case.judge[1][: len(patch.images) or None]
    clean, after = predicted(case, None)[: len(labels)], predicted(case, patch, place, seed, pose)
    asked = (clean == labels) & (labels != (-1 if target_class is None else target_class))
    return (after != labels if target_class is None else after == target_class)[asked]


@lru_cache(maxsize=64)
def predicted(case, patch, place="random", seed=0, pose=UNPOSED):
    """The classes that a case's network gives the images to judge by, with a patch on them or without."""
    pixels = case.judge[0]
    if patch is not None:
        pixels = pixels[: len(patch.images) or None]
        ids = [str(i) for i in range(len(pixels))]
        pixels = paste(pixels, *placement.stamps_for(patch, place, ids, pixels.shape[1:3], seed, pose=pose))
    return logits(case.network, pixels).argmax(1)
