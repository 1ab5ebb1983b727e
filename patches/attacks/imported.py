"""Import a patch that somebody else made, from a picture, an array or an npz."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels, sha256_file
from backends.device.pictures import read_picture
from backends.device.reading import MEBIBYTE, DamagedFile, Expected, map_npy, read_npz
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
    ``(p, p, 3)`` RGB, and may hold ``mask``, bool ``(p, p)``. An npy, such as ART's, holds floats in [0, 1], ``(3, p,
    p)`` or ``(p, p, 3)``, or uint8. ``checks`` has the file's name and hash, and what `patches.placement.resize_patch`
    did.
    """
    pixels, covers = _read(path)
    patch = Patch(
        name=name, pixels=np.where(covers[..., None], pixels, 0).astype(np.uint8), mask=covers, attack="imported",
        surrogate="", target_class=target_class, seed=0, shape=cutout(path).shape,
        checks={"file": path.name, "file_sha256": sha256_file(path), "px": len(covers), "queries": None},
    )  # fmt: skip
    return resize_patch(patch, image_size, image_size, px)


def _read(path: Path) -> tuple[Pixels, NDArray[np.bool_]]:
    readers = {".npz": _of_npz, ".npy": _of_npy}
    pixels, covers = readers.get(path.suffix, _of_picture)(path)
    height, width = pixels.shape[:2]
    if height != width:
        raise DamagedFile(f"{path}: expected a square patch, got {height}x{width}; crop it, or pad it transparently")
    if not covers.any():
        raise DamagedFile(f"{path}: its mask is empty: no pixel of the patch would be pasted")
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
    covers = arrays.get("mask", np.ones(pixels.shape[:2], bool))
    if covers.shape != pixels.shape[:2]:
        raise DamagedFile(f"{path}: mask: expected the patch's size {pixels.shape[:2]}, got {covers.shape}")
    return pixels, covers


def _of_npy(path: Path) -> tuple[Pixels, NDArray[np.bool_]]:
    expected = Expected((np.uint8, np.float32, np.float64), (None, None, None))
    array = map_npy(path, expected, most=3 * 8 * SIDE**2 + MEBIBYTE)
    if 3 not in (array.shape[0], array.shape[2]):
        raise DamagedFile(f"{path}: expected three channels, (3, p, p) or (p, p, 3), got {array.shape}")
    values = np.array(array if array.shape[2] == 3 else array.transpose(1, 2, 0))
    if values.dtype != np.uint8:
        low = values.min()
        high = values.max()
        if not 0 <= low <= high <= 1:
            raise DamagedFile(f"{path}: expected values from 0 to 1, or uint8, got {low:g} to {high:g}")
        values = np.rint(values * 255).astype(np.uint8)
    return values, np.ones(values.shape[:2], bool)
