"""Import a patch that somebody else made, from a picture or an npz."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels, sha256_file
from backends.device.errors import UserError
from backends.device.pictures import read_picture
from backends.device.reading import Expected, read_npz
from patches.patch import Patch
from patches.placement import Shape, Size, mask, resize_patch

SIDE = 4096  # of a file's patch, in pixels, before it is resized


class Cutout(NamedTuple):
    """The mask of a file's patch, bool ``(p, p)``, and the name of its shape."""

    shape: Shape
    mask: NDArray[np.bool_]


def cutout(path: Path) -> Cutout:
    """Return the cutout of a file: ``square``, ``round``, or ``alpha-`` and six digits of the mask's hash."""
    covers = _read(path)[1]
    side = len(covers)
    if covers.all():
        return Cutout("square", covers)
    if side > 2 and (covers == mask(side, "round")).all():
        return Cutout("round", covers)
    return Cutout(f"alpha-{hashlib.sha256(b'%d:' % side + np.packbits(covers).tobytes()).hexdigest()[:6]}", covers)


def load_patch(path: Path, *, name: str, target_class: int | None, px: int, image_size: Size) -> Patch:
    """Read the patch of a file and resize it to a side of `px`; a `UserError` names what the file lacks.

    The mask of a picture is where its alpha, if any, is at least half. An npz, such as ours, holds ``pixels``, uint8
    ``(p, p, 3)`` RGB, and may hold ``mask``, bool ``(p, p)``. ``checks`` has the file's name and hash, and what
    `patches.placement.resize_patch` did.
    """
    pixels, covers = _read(path)
    patch = Patch(
        name=name, pixels=np.where(covers[..., None], pixels, 0).astype(np.uint8), mask=covers, attack="imported",
        surrogate="", target_class=target_class, seed=0, shape=cutout(path).shape,
        checks={"file": path.name, "file_sha256": sha256_file(path), "px": len(covers), "queries": None},
    )  # fmt: skip
    return resize_patch(patch, image_size, image_size, px)


def _read(path: Path) -> tuple[Pixels, NDArray[np.bool_]]:
    pixels, covers = _of_npz(path) if path.suffix == ".npz" else _of_picture(path)
    side = len(pixels)
    if pixels.shape != (side, side, 3) or covers.shape != (side, side) or not covers.any():
        raise UserError(f"{path}: expected a square RGB patch with a mask that is not empty, got {pixels.shape}")
    return pixels, covers


def _of_picture(path: Path) -> tuple[Pixels, NDArray[np.bool_]]:
    whole = np.asarray(read_picture(path, "RGBA", most=SIDE**2))
    return whole[..., :3], whole[..., 3] >= 128


def _of_npz(path: Path) -> tuple[Pixels, NDArray[np.bool_]]:
    expected = {
        "pixels": Expected((np.uint8,), (None, None, 3)),
        "mask": Expected((np.bool_,), (None, None), required=False),
    }
    arrays = read_npz(path, expected, most=4 * SIDE**2)
    pixels = arrays["pixels"]
    return pixels, arrays.get("mask", np.ones(pixels.shape[:2], bool))
