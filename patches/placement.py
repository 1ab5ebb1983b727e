"""Where patches lie: their size, the pixels they cover, their corners; shared by attacks, controls and targets."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backends.device.artifact import Pixels
from backends.device.bundle import Stamps
from backends.device.errors import UserError
from patches import poses
from patches.patch import UNPOSED, Patch, Pose

Shape = str  # square, round, or of a file's own mask that mask's name (`patches.attacks.imported.cutout`)
Size = tuple[int, int]  # (height, width)
POSITIONS = ("random", "center", "top-left", "top-right", "bottom-left", "bottom-right")
ROW_COLUMN = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*")
_FILLS: dict[str, float] = {"square": 1.0, "round": math.pi / 4}  # what a shape covers of the square around it


def side(area: float, image_size: Size, shape: Shape = "square") -> int:
    """Side (or diameter) in pixels of a patch that covers the share `area` of an image, to the nearest pixel.

    The covered area counts: a disc of the same share is wider than the square, by ``sqrt(4 / pi)``.
    """
    if not 0 < area <= 1:
        raise UserError(f"patch area: expected a share of the image's area above 0 and up to 1, got {area:g}")
    px = max(1, round(math.sqrt(area * math.prod(image_size) / _fill(shape))))
    _must_fit(px, image_size)
    return px


def mask(px: int, shape: Shape = "square") -> NDArray[np.bool_]:
    """Which pixels of a ``(px, px)`` patch cover the image: all, or those with their centre in the inscribed disc."""
    _fill(shape)
    if px < 1:
        raise UserError(f"patch size: expected at least 1 pixel, got {px}")
    if shape == "square":
        return np.ones((px, px), bool)
    centre = np.arange(px) * 2 + 1 - px  # in half pixels, so that the comparison is between integers
    disc: NDArray[np.bool_] = centre[:, None] ** 2 + centre[None, :] ** 2 <= px**2
    return disc


def with_mask(patch: Patch, covers: NDArray[np.bool_], shape: Shape) -> Patch:
    """The patch under another mask ``(p, p)`` of its side, black outside of it."""
    return replace(
        patch, pixels=np.where(covers[..., None], patch.pixels, 0).astype(np.uint8), mask=covers, shape=shape
    )


def resize_mask(covers: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    """A mask at another side: a pixel covers where at least half of it does."""
    if px < 1:
        raise UserError(f"patch size: expected at least 1 pixel, got {px}")
    return covers if len(covers) == px else _resized(covers.astype(np.float32), px) >= 0.5


def corners(placement: str, ids: Sequence[str], px: int, image_size: Size, seed: int = 0) -> NDArray[np.int32]:
    """Row and column of the patch's top-left pixel on each image: int32 ``(n, 2)``.

    `placement` is ``random``, ``center``, a corner such as ``top-left``, or ``ROW,COLUMN``. ``random`` is a function of
    image id, patch size and seed alone, uniform over the positions that keep the patch inside: sha256 of seed and id
    gives two fractions, stretched to the room that the patch leaves. So an image's place stays comparable over patch
    sizes and input sizes, and does not depend on the other images, the attack or the machine.
    """
    _must_fit(px, image_size)
    room = (image_size[0] - px, image_size[1] - px)
    if placement == "random":
        places = [_fractions(image, seed) for image in ids]
        found = [[(f * (r + 1)) >> 64 for f, r in zip(place, room, strict=True)] for place in places]
        return np.array(found, np.int32).reshape(-1, 2)
    row, column = _fixed(placement, room)
    if row > room[0] or column > room[1]:
        raise UserError(
            f"placement {placement!r}: a {px}x{px} patch there leaves the {image_size[0]}x{image_size[1]} image; "
            f"the last row and column that fit are {room[0]},{room[1]}"
        )
    return np.tile(np.array([[row, column]], np.int32), (len(ids), 1))


def stamps_for(
    patch: Patch,
    placement: str,
    ids: Sequence[str],
    image_size: Size,
    seed: int = 0,
    at: Patch | None = None,
    pose: Pose = UNPOSED,
) -> Stamps:
    """The patch as it lies on images with these ids: uint8 stamps, bool masks, int32 corners as in a bundle.

    Stamps are ``(1, p, p, 3)``, or ``(n, p, p, 3)`` of a patch made for each image. Besides the words of `corners`,
    placement ``best`` is where the attack chose, or that of the patch `at` in whose place a control lies. A `pose`
    turns, scales and lights each image's stamp by its own draw; the stamps are then as wide as the widest pose.
    """
    chosen, canvas = at or patch, poses.canvas_side(patch.px, pose)
    stamps = patch.pixels[_rows(patch, ids)] if patch.images else patch.pixels[None]
    if placement != "best":
        places = corners(placement, ids, canvas, image_size, seed)
    elif chosen.corners is None:
        raise UserError(f"placement 'best': patch {chosen.name} has no places of its own; craft it with that placement")
    else:
        own = chosen.corners[_rows(chosen, ids) if chosen.images else [0] * len(ids)]
        _must_fit(canvas, image_size)
        places = (own - (canvas - patch.px) // 2).clip(0, np.array(image_size) - canvas).astype(np.int32)
    if not any(pose):
        return Stamps(stamps, patch.mask[None], places)
    return Stamps(*poses.pose_stamps(stamps, patch.mask, poses.draw(pose, ids, seed), canvas), places)


def _rows(patch: Patch, ids: Sequence[str]) -> list[int]:
    """Which stamp each image gets; an image that the patch was not made for is a `UserError`."""
    known = {image: row for row, image in enumerate(patch.images)}
    if missing := [image for image in ids if image not in known]:
        raise UserError(
            f"patch {patch.name}: was made for {len(known)} images, {missing[0]!r} is none of them; craft it anew"
        )
    return [known[image] for image in ids]


def resize_patch(patch: Patch, from_size: Size, to_size: Size, px: int | None = None) -> Patch:
    """The patch for a victim of another input size: resized with antialiasing, then rounded once.

    Its side becomes `px`, by default the one of the same share of the area. Covered pixels alone are averaged
    (premultiplied by the mask). ``checks["carried"]`` says what was done; a patch that keeps its side stays as it is.
    """
    if px is None:
        px = max(1, round(patch.px * math.sqrt(math.prod(to_size) / math.prod(from_size))))
    _must_fit(px, to_size)
    if px == patch.px and (patch.corners is None or from_size == to_size):
        return patch
    weight = _resized(patch.mask.astype(np.float32), px)
    ours = patch.shape in _FILLS and (patch.mask == mask(patch.px, patch.shape)).all()
    covers = mask(px, patch.shape) if ours else resize_mask(patch.mask, px)
    each = [
        _carried(pixels, patch.mask, weight, covers) for pixels in patch.pixels.reshape(-1, *patch.pixels.shape[-3:])
    ]
    pixels = np.stack(each).reshape(*patch.pixels.shape[:-3], px, px, 3)
    places = patch.corners
    if places is not None:
        room, was = (np.array(size) - side for size, side in ((to_size, px), (from_size, patch.px)))
        places = np.rint(places * room / np.maximum(was, 1)).astype(np.int32)
    note = {"from": list(from_size), "to": list(to_size), "from_px": patch.px, "to_px": px}
    return replace(patch, pixels=pixels, mask=covers, corners=places, checks=patch.checks | {"carried": note})


def _carried(
    pixels: Pixels, covered: NDArray[np.bool_], weight: NDArray[np.float32], covers: NDArray[np.bool_]
) -> Pixels:
    channels = [_resized(np.where(covered, pixels[..., c], 0).astype(np.float32), len(covers)) for c in range(3)]
    mean = np.stack(channels, axis=-1) / np.maximum(weight, 1e-6)[..., None]
    return np.where(covers[..., None], np.rint(mean).clip(0, 255), 0).astype(np.uint8)


def _resized(plane: NDArray[np.float32], px: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).resize((px, px), Image.Resampling.BILINEAR))


def _fill(shape: str) -> float:
    if shape not in _FILLS:
        raise UserError(f"patch shape: expected {' or '.join(_FILLS)}, got {shape!r}")
    return _FILLS[shape]


def _must_fit(px: int, image_size: Size) -> None:
    if not 1 <= px <= min(image_size):
        raise UserError(
            f"patch size: expected 1 to {min(image_size)} pixels on a {image_size[0]}x{image_size[1]} image, got {px}"
        )


def _fractions(image: str, seed: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"{seed}:{image}".encode()).digest()  # an integer holds no colon: no two pairs read alike
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")


def check_placement(placement: str, words: Sequence[str] = POSITIONS) -> None:
    """A `UserError` naming the nearest word unless this is one, or ``ROW,COLUMN``."""
    if ROW_COLUMN.fullmatch(placement) or placement in words:
        return
    near = difflib.get_close_matches(placement, words, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"placement {placement!r}: expected {', '.join(words)} or ROW,COLUMN in pixels{hint}")


def _fixed(placement: str, room: Size) -> tuple[int, int]:
    if exact := ROW_COLUMN.fullmatch(placement):
        return int(exact[1]), int(exact[2])
    check_placement(placement)
    if placement == "center":
        return room[0] // 2, room[1] // 2
    vertical, horizontal = placement.split("-")
    return room[0] * (vertical == "bottom"), room[1] * (horizontal == "right")
