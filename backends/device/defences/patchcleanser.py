"""PatchCleanser: an answer that survives masks, two by two, whatever a patch shows.

Xiang et al. 2022, "PatchCleanser: certifiably robust defense against adversarial patches for any image classifier",
section 3: double masking (algorithm 1), its certificate, two-mask correctness (theorem 1), and a set of masks one of
which covers a patch of the setting's side, wherever it lies; six along an axis, as in the paper. Every answer
is the network's own, of masked uint8 pixels, so that a certificate is one of this file on this runtime. It does not
know the label: of a right answer it says that no patch changes it.

Ours: masks are grey, the middle of the range.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.defences import Answer, Classify, starts
from backends.device.errors import UserError

SETTING = "PATCH_PX"
SETTINGS = range(1, 1025)
VERDICTS = ("agreement", "disagreer", "majority")
MASKS = 6  # along an axis
GREY = 128


class Masks(NamedTuple):
    """Masks of one height and width, by their top left corners."""

    size: tuple[int, int]
    corners: list[tuple[int, int]]


def mask_set(size: tuple[int, int], patch_px: int, along: int = MASKS) -> Masks:
    """Return masks one of which covers any square of side `patch_px` in an image, `along` or fewer along each axis."""
    if patch_px > min(size):
        raise UserError(f"patchcleanser:{patch_px}: a patch of that side does not fit into an image of {size}")
    strides = [-(-(length - patch_px + 1) // along) for length in size]
    height, width = (patch_px + stride - 1 for stride in strides)
    rows, columns = map(starts, size, (height, width), strides)
    return Masks((height, width), [(row, column) for row in rows for column in columns])


def masked(image: Pixels, masks: Masks) -> Pixels:
    """Return an image ``(h, w, 3)`` under each of the masks, ``(masks, h, w, 3)``."""
    height, width = masks.size
    out: Pixels = np.repeat(image[None], len(masks.corners), axis=0)
    for one, (row, column) in zip(out, masks.corners):
        one[row : row + height, column : column + width] = GREY
    return out


def answer(image: Pixels, classify: Classify, patch_px: int) -> Answer:
    """Answer by double masking."""
    return double_masking(image, classify, mask_set(image.shape[:2], patch_px))


def double_masking(image: Pixels, classify: Classify, masks: Masks) -> Answer:
    """Return the label of all masks; else one that a second mask never changes; else that of most masks."""
    once = masked(image, masks)
    logits = classify(once)
    labels = logits.argmax(axis=1)
    majority = np.bincount(labels).argmax()
    passes = len(labels)
    disagreers = np.flatnonzero(labels != majority)
    for i in disagreers:
        passes += len(masks.corners)
        if (_labels(masked(once[i], masks), classify) == labels[i]).all():
            return Answer(logits[i], "disagreer", passes)
    chosen = np.flatnonzero(labels == majority)[0]
    return Answer(logits[chosen], "majority" if len(disagreers) else "agreement", passes)


def certified(image: Pixels, classify: Classify, patch_px: int) -> bool:
    """Whether an image without a patch has one answer under any two masks."""
    return two_mask_agreement(image, classify, mask_set(image.shape[:2], patch_px))


def two_mask_agreement(image: Pixels, classify: Classify, masks: Masks) -> bool:
    """Whether all pairs of masks, equal ones among them, leave the same label."""
    once = masked(image, masks)
    labels = _labels(once, classify)
    if (labels != labels[0]).any():
        return False
    for i in range(len(masks.corners) - 1):
        rest = Masks(masks.size, masks.corners[i + 1 :])
        if (_labels(masked(once[i], rest), classify) != labels[0]).any():
            return False
    return True


def _labels(pixels: Pixels, classify: Classify) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = classify(pixels).argmax(axis=1)
    return labels
