"""Craft a patch and paste it, without a suite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends.device import bundle
from backends.device.artifact import Pixels, Preproc
from backends.device.errors import UserError
from harness.api.arrays import check_images, check_labels
from patches.patch import Patch
from patches.placement import corners, side, stamps_for

if TYPE_CHECKING:
    from torch import nn


def craft(
    surrogate: nn.Module | str | Path,
    images: Pixels,
    labels: NDArray[np.integer[Any]],
    *,
    target_class: int | None = None,
    attack: str = "gap",
    area: float | None = None,
    px: int | None = None,
    shape: str = "square",
    placement: str = "random",
    per_image: bool = False,
    options: Mapping[str, Any] | None = None,
    preproc: Preproc | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Patch:
    """Make an adversarial patch: one for all images or, with `per_image`, one for each.

    On a CPU the same seed, machine and threads give the same bytes.

    Args:
        surrogate: What to differentiate: a torch module, from float32 ``(n, 3, h, w)`` RGB to logits, or an INT8
            ``.onnx`` or ``.tflite`` file, whose twin computes the file's own integers.
        images: Images to craft on, uint8 ``(n, h, w, 3)`` RGB. Count success on others.
        labels: Their classes, integers ``(n,)``.
        target_class: The class that patched images should get; None to get any other than their own.
        attack: ``gap``, ``lavan``, ``pgd``, or one from an installed package.
        area: Size of the patch as a share of the image's area. Give this or `px`.
        px: Size of the patch as its side in pixels.
        shape: ``square`` or ``round``.
        placement: ``random`` for a patch that works anywhere, ``center``, ``top-left`` and the other corners, or
            ``ROW,COLUMN`` for one that knows its place.
        per_image: Make a patch for each image, at the place where `paste` will put it.
        options: Options of the attack, such as ``{"steps": 500}``.
        preproc: What a module, or a file that `export` did not write, expects of pixels; see `export` and `replay`.
        seed: Seed of all that is random.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    from patches.craft import craft as craft_on
    from patches.problem import Problem

    pixels = check_images(images)
    ids = _ids(pixels)
    size = pixels.shape[1:3]
    if (area is None) == (px is None):
        raise UserError("expected either area, the patch's share of the image, or px, its side in pixels")
    width = side(area, size, shape) if area is not None else int(px or 0)
    is_anywhere = placement == "random" and not per_image
    problem = Problem(
        surrogate=_built(surrogate, pixels, preproc),
        pixels=pixels,
        labels=check_labels(labels, len(pixels)),
        target_class=target_class,
        px=width,
        shape=shape,
        seed=seed,
        device=device,
        per_image=per_image,
        corners=None if is_anywhere else corners(placement, ids if per_image else ids[:1], width, size),
    )
    words = f"twin:{Path(surrogate).stem}" if isinstance(surrogate, str | Path) else "float"
    return craft_on(attack, problem, options, surrogate=words, images=ids if per_image else ())


def paste(patch: Patch, images: Pixels, *, placement: str = "random", seed: int = 0) -> Pixels:
    """Return a copy of the images with a patch on each, as a device sees them.

    Args:
        patch: From `craft`, or read with ``Patch.read``. One made for each image needs those very images.
        images: uint8 ``(n, h, w, 3)`` RGB.
        placement: ``random``, ``center``, ``top-left`` and the other corners, or ``ROW,COLUMN`` in pixels.
        seed: Another seed draws other random places; a patch made for each image knows those of seed 0.
    """
    pixels = check_images(images)
    return bundle.paste(pixels, *stamps_for(patch, placement, _ids(pixels), pixels.shape[1:3], seed))


def _ids(pixels: Pixels) -> tuple[str, ...]:
    return tuple(str(i) for i in range(len(pixels)))


def _built(surrogate: nn.Module | str | Path, pixels: Pixels, preproc: Preproc | None) -> nn.Module:
    """Return the frozen network that a module or a file stands for."""
    from harness.api.files import described
    from harness.api.networks import with_preproc
    from patches.surrogates import build
    from patches.twins import twin

    if isinstance(surrogate, str | Path):
        known = described(Path(surrogate), pixels, preproc)
        return twin(Path(surrogate), None, known.preproc, known.class_offset)
    return build("float", with_preproc(surrogate, preproc))
