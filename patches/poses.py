"""Poses: rotate, scale and light a patch in numpy, by poses drawn from image ids."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from patches.patch import Pose


def canvas_side(px: int, pose: Pose) -> int:
    """Return the side of the square that holds the patch in its widest pose; `px` if it is only lit."""
    for name, value in pose._asdict().items():
        if not 0 <= value <= (180 if name == "rotation" else 0.99):
            most = "180 degrees" if name == "rotation" else "0.99"
            raise UserError(f"pose: expected {name} from 0 to {most}, got {value:g}")
    if not pose.rotation and not pose.scale:
        return px
    angle = math.radians(min(pose.rotation, 45.0))
    widest = px * (1 + pose.scale) * (math.cos(angle) + math.sin(angle))
    return px + 2 * math.ceil((widest - px) / 2 - 1e-9)


def draw(pose: Pose, ids: Sequence[str], seed: int = 0) -> NDArray[np.float64]:
    """Draw each image's pose, ``(n, 4)``, uniformly within `pose`, from the sha256 of seed and id."""
    digests = (hashlib.sha256(f"pose:{seed}:{image}".encode()).digest() for image in ids)
    fractions = [[int.from_bytes(digest[8 * i : 8 * i + 8], "big") / 2**64 for i in range(4)] for digest in digests]
    return np.asarray((np.array(fractions, np.float64).reshape(-1, 4) * 2 - 1) * np.array(pose))


def pose_stamps(
    stamps: Pixels, mask: NDArray[np.bool_], poses: NDArray[np.float64], canvas: int
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return stamps ``(1 or n, p, p, 3)`` in poses ``(n, 4)``: uint8 ``(n, canvas, canvas, 3)`` and their masks.

    Rotation is clockwise and bilinear between covered pixels alone; a pixel covers where at least half of it is
    covered. Light is ``(c - 1/2) (1 + contrast) + 1/2 + brightness`` on [0, 1]; colours are rounded once, at the end.
    """
    colours = []
    masks = []
    for i, pose in enumerate(poses):
        stamp = stamps[i % len(stamps)].astype(np.float64) / 255
        coverage = _sampled(mask.astype(np.float64)[..., None], pose, canvas)
        colour = _sampled(stamp * mask[..., None], pose, canvas) / np.maximum(coverage, 1e-6)
        lit = (colour - 0.5) * (1 + pose[3]) + 0.5 + pose[2]
        covered = coverage[..., 0] >= 0.5
        colours.append(np.where(covered[..., None], np.rint(lit.clip(0, 1) * 255), 0).astype(np.uint8))
        masks.append(covered)
    return np.stack(colours), np.stack(masks)


def _sampled(plane: NDArray[np.float64], pose: NDArray[np.float64], canvas: int) -> NDArray[np.float64]:
    """Rotate and scale a plane ``(p, p, c)`` about its middle onto a canvas of zeros, bilinearly.

    scipy.ndimage.map_coordinates would do, but it rounds otherwise: of 1600 random stamps one differed in a pixel.
    """
    p = len(plane)
    middle = np.arange(canvas) - (canvas - 1) / 2
    turn = math.radians(pose[0])
    size = 1 + pose[1]
    y, x = np.meshgrid(middle, middle, indexing="ij")
    rows = (math.cos(turn) * y - math.sin(turn) * x) / size + (p - 1) / 2
    columns = (math.sin(turn) * y + math.cos(turn) * x) / size + (p - 1) / 2
    edged = np.pad(plane, ((1, 1), (1, 1), (0, 0)))
    rows = np.clip(rows, -1, p) + 1
    columns = np.clip(columns, -1, p) + 1
    top = np.minimum(np.floor(rows).astype(int), p)
    left = np.minimum(np.floor(columns).astype(int), p)
    down = (rows - top)[..., None]
    right = (columns - left)[..., None]
    upper = edged[top, left] * (1 - right) + edged[top, left + 1] * right
    lower = edged[top + 1, left] * (1 - right) + edged[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)
