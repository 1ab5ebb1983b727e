"""The controls: attacks that use no gradients and no torch."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from patches.patch import Patch
from patches.placement import Shape, mask


def control(name: str, px: int, shape: Shape = "square", seed: int = 0) -> Patch | None:
    """Return a control of this size: ``grey`` is 128 everywhere, ``noise`` uniform, ``none`` no patch at all.

    The noise is the stream of SHAKE-256 over seed and size, the same bytes on every machine and numpy version.
    """
    covers = mask(px, shape)
    if name == "none":
        return None
    if name == "grey":
        pixels = np.full((px, px, 3), 128, np.uint8)
        seed = 0
    elif name == "noise":
        stream = hashlib.shake_256(f"noise:{seed}:{px}".encode()).digest(px * px * 3)
        pixels = np.frombuffer(stream, np.uint8).reshape(px, px, 3)
    else:
        raise UserError(f"control {name!r}: expected none, grey or noise")
    return Patch(
        name=f"{name}-{px}px-s{seed}", pixels=np.where(covers[..., None], pixels, 0).astype(np.uint8), mask=covers,
        attack=name, surrogate="", target_class=None, seed=seed, shape=shape,
    )  # fmt: skip


def sticker(
    images: Pixels,
    labels: NDArray[np.integer],
    target_class: int | None,
    px: int,
    shape: Shape = "square",
    seed: int = 0,
) -> Patch:
    """Return a natural picture as a patch: the central square of an image, shrunk with antialiasing.

    It is image number ``seed`` (modulo their count) of the target class, or of all images where none has that class.
    ``checks`` holds the image's label: a picture that pulls towards its own class is not an attack.
    """
    own = [at for at, label in enumerate(labels.tolist()) if label == target_class] or range(len(images))
    at = own[seed % len(own)]
    height, width = images.shape[1:3]
    side, covers = min(height, width), mask(px, shape)
    top, left = (height - side) // 2, (width - side) // 2
    picture = Image.fromarray(np.array(images[at, top : top + side, left : left + side]))
    pixels = np.asarray(picture.resize((px, px), Image.Resampling.BILINEAR))
    return Patch(
        name=f"sticker-{px}px-s{seed}", pixels=np.where(covers[..., None], pixels, 0).astype(np.uint8), mask=covers,
        attack="sticker", surrogate="", target_class=target_class, seed=seed, shape=shape,
        checks={"label": int(labels[at])},
    )  # fmt: skip
