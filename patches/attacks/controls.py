"""The controls: rows like any other attack, made of no gradient and no image. Numpy only."""

from __future__ import annotations

import hashlib

import numpy as np

from harness.schema import Patch, UserError
from patches.placement import Shape, mask

NAMES = ("none", "grey", "noise")


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
        raise UserError(f"no control named {name!r}; there are {', '.join(NAMES)}")
    return Patch(
        name=f"{name}-{px}px-s{seed}", pixels=np.where(covers[..., None], pixels, 0).astype(np.uint8), mask=covers,
        attack=name, surrogate="", target_class=None, seed=seed, shape=shape,
    )  # fmt: skip
