"""Place patches: their size, the pixels they cover, their corners; shared by attacks, controls and targets."""

from __future__ import annotations

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
from backends.device.errors import UserError, did_you_mean
from patches import poses
from patches.patch import UNPOSED, Patch, Pose

Shape = str  # square, round, or the name of a file's own mask (`patches.attacks.imported.cutout`)
Size = tuple[int, int]  # (height, width)
POSITIONS = ("random", "center", "top-left", "top-right", "bottom-left", "bottom-right")
ROW_COLUMN = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*")
FILLS = {"square": 1.0, "round": math.pi / 4}  # share of the square around a shape that it covers


def side(area: float, image_size: Size, shape: Shape = "square") -> int:
    """Return the side (or diameter) in pixels, to the nearest one, of a patch that covers the share `area` of an image.

    The covered area counts: a disc of the same share is wider than the square, by ``sqrt(4 / pi)``.
    """
    if not 0 < area <= 1:
        raise UserError(f"patch area: expected a share of the image's area above 0 and up to 1, got {area:g}")
    _check_shape(shape)
    px = max(1, round(math.sqrt(area * math.prod(image_size) / FILLS[shape])))
    check_fits(px, image_size)
    return px


def mask(px: int, shape: Shape = "square") -> NDArray[np.bool_]:
    """Return the mask ``(px, px)`` of a shape: all pixels, or those with their centre in the inscribed disc."""
    _check_shape(shape)
    _check_px(px)
    if shape == "square":
        return np.ones((px, px), bool)
    centre = np.arange(px) * 2 + 1 - px  # in half pixels, so that the comparison is between integers
    disc: NDArray[np.bool_] = centre[:, None] ** 2 + centre[None, :] ** 2 <= px**2
    return disc


def with_mask(patch: Patch, covers: NDArray[np.bool_], shape: Shape) -> Patch:
    """Return the patch under another mask ``(p, p)``, black outside of it."""
    pixels = np.where(covers[..., None], patch.pixels, 0).astype(np.uint8)
    return replace(patch, pixels=pixels, mask=covers, shape=shape)


def resize_mask(covers: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    """Resize a mask; a new pixel covers where at least half of it is covered."""
    _check_px(px)
    return covers if len(covers) == px else _resized(covers.astype(np.float32), px) >= 0.5


def corners(placement: str, ids: Sequence[str], px: int, image_size: Size, seed: int = 0) -> NDArray[np.int32]:
    """Return row and column of the patch's top-left pixel on each image: int32 ``(n, 2)``.

    `placement` is ``random``, ``center``, a corner such as ``top-left``, or ``ROW,COLUMN``. ``random`` is uniform over
    the positions that keep the patch inside: sha256 of seed and image id gives two fractions, scaled to the room that
    the patch leaves. So places are comparable over patch sizes and input sizes, and independent of the other images,
    the attack and the machine.
    """
    check_fits(px, image_size)
    room = (image_size[0] - px, image_size[1] - px)
    if placement == "random":
        places = [
            [(fraction * (free + 1)) >> 64 for fraction, free in zip(_fractions(image, seed), room, strict=True)]
            for image in ids
        ]
        return np.array(places, np.int32).reshape(-1, 2)
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
    """Return the patch as it is pasted onto images with these ids; one stamp for all where all would be the same.

    Besides those of `corners`, the placement ``best`` is the attack's own choice, or that of the patch `at` whose place
    a control takes. Within a `pose`, each image's stamp is rotated, scaled and lit by its own draw, and all stamps are
    as wide as the widest pose.
    """
    chosen = at or patch
    canvas = poses.canvas_side(patch.px, pose)
    stamps = patch.pixels[_rows(patch, ids)] if patch.images else patch.pixels[None]
    if placement != "best":
        places = corners(placement, ids, canvas, image_size, seed)
    elif chosen.corners is None:
        raise UserError(f"placement 'best': patch {chosen.name} has no places of its own; craft it with that placement")
    else:
        own = chosen.corners[_rows(chosen, ids) if chosen.images else [0] * len(ids)]
        check_fits(canvas, image_size)
        places = (own - (canvas - patch.px) // 2).clip(0, np.array(image_size) - canvas).astype(np.int32)
    if not any(pose):
        return Stamps(stamps, patch.mask[None], places)
    return Stamps(*poses.pose_stamps(stamps, patch.mask, poses.draw(pose, ids, seed), canvas), places)


def resize_patch(patch: Patch, from_size: Size, to_size: Size, px: int | None = None) -> Patch:
    """Resize the patch for a victim of another input size, with antialiasing, and round once.

    Its side becomes `px`, by default the one of the same share of the area. Only covered pixels are averaged
    (premultiplied by the mask). ``checks["carried"]`` says what was done; a patch that keeps its side is unchanged.
    """
    if px is None:
        px = max(1, round(patch.px * math.sqrt(math.prod(to_size) / math.prod(from_size))))
    check_fits(px, to_size)
    if px == patch.px and (patch.corners is None or from_size == to_size):
        return patch
    has_own_mask = patch.shape not in FILLS or (patch.mask != mask(patch.px, patch.shape)).any()
    covers = resize_mask(patch.mask, px) if has_own_mask else mask(px, patch.shape)
    each = patch.pixels.reshape(-1, *patch.pixels.shape[-3:])
    pixels = np.stack([_resized_pixels(one, patch.mask, covers) for one in each])
    places = patch.corners
    if places is not None:
        room = np.array(to_size) - px
        room_before = np.array(from_size) - patch.px
        places = np.rint(places * room / np.maximum(room_before, 1)).astype(np.int32)
    note = {"from": list(from_size), "to": list(to_size), "from_px": patch.px, "to_px": px}
    return replace(
        patch,
        pixels=pixels.reshape(*patch.pixels.shape[:-3], px, px, 3),
        mask=covers,
        corners=places,
        checks=patch.checks | {"carried": note},
    )


def check_placement(placement: str, allowed: Sequence[str] = POSITIONS) -> None:
    """Raise a `UserError` that names the nearest placement, unless this is one, or ``ROW,COLUMN``."""
    if not ROW_COLUMN.fullmatch(placement) and placement not in allowed:
        raise UserError(
            f"placement {placement!r}: expected {', '.join(allowed)} or ROW,COLUMN in pixels; "
            f"{did_you_mean(placement, allowed)}"
        )


def check_place(placement: str, px: int, image_size: Size, pose: Pose = UNPOSED) -> None:
    """Raise a `UserError` unless a patch fits at a place, in its widest pose."""
    check_fits(px, image_size)
    canvas = poses.canvas_side(px, pose)
    if canvas > min(image_size):
        raise UserError(
            f"pose: a patch of {px} pixels takes up to {canvas} in its widest pose, and the image is "
            f"{image_size[0]}x{image_size[1]}"
        )
    if placement != "best":
        corners(placement, (), canvas, image_size)


def check_fits(px: int, image_size: Size) -> None:
    """Raise a `UserError` unless a patch fits onto an image."""
    if not 1 <= px <= min(image_size):
        raise UserError(
            f"patch size: expected 1 to {min(image_size)} pixels on a {image_size[0]}x{image_size[1]} image, got {px}"
        )


def _rows(patch: Patch, ids: Sequence[str]) -> list[int]:
    """Return which of a per-image patch's stamps each image gets."""
    rows = {image: row for row, image in enumerate(patch.images)}
    for image in ids:
        if image not in rows:
            raise UserError(
                f"patch {patch.name}: {image!r} is not one of the {len(rows)} images it was crafted for; craft it again"
            )
    return [rows[image] for image in ids]


def _resized_pixels(pixels: Pixels, covered: NDArray[np.bool_], covers: NDArray[np.bool_]) -> Pixels:
    px = len(covers)
    weight = _resized(covered.astype(np.float32), px)
    channels = [_resized(np.where(covered, pixels[..., c], 0).astype(np.float32), px) for c in range(3)]
    mean = np.stack(channels, axis=-1) / np.maximum(weight, 1e-6)[..., None]
    return np.where(covers[..., None], np.rint(mean).clip(0, 255), 0).astype(np.uint8)


def _resized(plane: NDArray[np.float32], px: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).resize((px, px), Image.Resampling.BILINEAR))


def _check_shape(shape: str) -> None:
    if shape not in FILLS:
        raise UserError(f"patch shape: expected {' or '.join(FILLS)}, got {shape!r}")


def _check_px(px: int) -> None:
    if px < 1:
        raise UserError(f"patch size: expected at least 1 pixel, got {px}")


def _fractions(image: str, seed: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"{seed}:{image}".encode()).digest()  # an integer holds no colon, so all pairs differ
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")


def _fixed(placement: str, room: Size) -> tuple[int, int]:
    if exact := ROW_COLUMN.fullmatch(placement):
        return int(exact[1]), int(exact[2])
    check_placement(placement)
    if placement == "center":
        return room[0] // 2, room[1] // 2
    vertical, horizontal = placement.split("-")
    row = room[0] if vertical == "bottom" else 0
    column = room[1] if horizontal == "right" else 0
    return row, column
