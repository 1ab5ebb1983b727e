"""The controls: rows like any other attack, made of no gradient. Needs no torch."""

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
    """A control of this size: ``grey`` is 128 everywhere, ``noise`` uniform from the seed, ``none`` no patch at all.

    The noise is the stream of SHAKE-256 over seed and size: the same bytes on every machine and numpy.
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
        raise UserError(f"no control of this name is made of nothing: {name!r}; there are none, grey, noise")
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
    """A natural picture as a patch: the greatest square in the middle of an image, shrunk with antialiasing.

    The seed's image of the target class, in their order, or of all where there is none of it or no target class; they
    come round again. ``checks`` has the image's label: what such a picture brings to its class is no attack's merit.
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
