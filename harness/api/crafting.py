"""Craft a patch and paste it, without a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends.device import bundle
from backends.device.artifact import Pixels, Preproc
from backends.device.errors import UserError
from harness.api.arrays import check_images, check_labels
from harness.extras import require
from harness.run.stages import check_device
from patches.attacks import QUERY_ATTACKS, is_control
from patches.attacks.controls import control, sticker
from patches.patch import Patch
from patches.placement import Size, corners, side, stamps_for

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

    Args:
        surrogate: What to differentiate: a torch module, from float32 ``(n, 3, h, w)`` RGB to logits, or an INT8
            ``.onnx`` or ``.tflite`` file, whose twin computes the file's own integers.
        images: Images to craft on, uint8 ``(n, h, w, 3)`` RGB. Count success on others.
        labels: Their classes, integers ``(n,)``.
        target_class: The class that patched images should get; None to get any other than their own.
        attack: ``gap``, ``lavan``, ``pgd``, one from an installed package, or a control that needs no gradients:
            ``noise``, ``grey`` or ``sticker``.
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
    pixels = check_images(images)
    classes = check_labels(labels, len(pixels))
    goal = _goal(target_class)
    width = _side(area, px, pixels, shape)
    if is_control(attack):
        return _control(attack, pixels, classes, goal, width, shape, seed)
    if attack in QUERY_ATTACKS:
        raise UserError(f'attack {attack!r} queries a device: run a suite with surrogate = "device:ARTIFACT:TARGET"')
    require("torch")
    check_device(device)
    network = _built(surrogate, pixels, preproc)

    from patches.craft import craft as craft_on
    from patches.problem import Problem

    ids = _ids(pixels) if per_image else ()
    problem = Problem(
        network, pixels, classes, goal, width, shape, seed, device, per_image,
        _corners(placement, ids, width, pixels.shape[1:3]),
    )  # fmt: skip
    words = f"twin:{Path(surrogate).stem}" if isinstance(surrogate, str | Path) else "float"
    return craft_on(attack, problem, options, surrogate=words, images=ids)


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


def _goal(target_class: int | None) -> int | None:
    if target_class is None:
        return None
    if not isinstance(target_class, int | np.integer):
        raise UserError(f"target_class: expected a class's number, or None for any other, got {target_class!r}")
    return int(target_class)


def _side(area: float | None, px: int | None, pixels: Pixels, shape: str) -> int:
    if (area is None) == (px is None):
        raise UserError("expected either area, the patch's share of the image, or px, its side in pixels")
    if area is not None:
        return side(area, pixels.shape[1:3], shape)
    if not isinstance(px, int | np.integer):
        raise UserError(f"px: expected whole pixels, got {px!r}")
    return int(px)


def _corners(placement: str, ids: Sequence[str], px: int, size: Size) -> NDArray[np.int32] | None:
    """Return where patches will lie, as far as that is known: not where one patch for all images may lie anywhere."""
    return None if placement == "random" and not ids else corners(placement, ids or ("any",), px, size)


def _control(
    name: str, pixels: Pixels, labels: NDArray[np.int64], target_class: int | None, px: int, shape: str, seed: int
) -> Patch:
    made = (
        sticker(pixels, labels, target_class, px, shape, seed) if name == "sticker" else control(name, px, shape, seed)
    )
    if made is None:
        raise UserError(f"attack {name!r} makes no patch: replay the images as they are")
    return made


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
