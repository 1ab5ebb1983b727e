"""Outlines of patches: their shape, side and mask, from an attack's table or from the file that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backends.device.errors import UserError
from backends.device.names import check_path
from harness import config
from harness.plan.steps import VictimStep
from patches.attacks import IMPORTED
from patches.attacks.imported import cutout
from patches.placement import FILLS, resize_mask, side


@dataclass(frozen=True)
class Outline:
    """A patch's outline: its side at the victim's size, its shape, and the share of the square that the shape covers.

    ``file`` is the picture whose mask it is; None for a square or a disc.
    """

    px: int
    shape: str
    fill: float
    file: Path | None = None


def outlines(table: config.AttackTable, victim: VictimStep) -> Iterator[Outline]:
    """Yield an outline for each size and shape of an attack's table; an imported patch has the shape of its file."""
    if (table.area is None) == (table.pixels is None):
        raise UserError(
            f"attack {table.name!r}: give either area (a share of the image's) or pixels (the patch's side)"
        )
    shapes = _imported_shape(table, victim) if table.name == IMPORTED else dict.fromkeys(table.shape)
    for size in table.area or table.pixels or ():
        for shape, file in shapes.items():
            if file is None:
                px = int(size) if table.pixels else side(size, victim.data.size, shape)
                yield Outline(px, shape, FILLS[shape])
            else:
                mask = cutout(file).mask
                px = int(size) if table.pixels else side(size / float(mask.mean()), victim.data.size)
                fill = float(resize_mask(mask, px).mean())
                if fill == 0:
                    raise UserError(f"attack {table.name!r}: at {px} pixels nothing is left of the mask of {file}")
                yield Outline(px, shape, fill, file)


def picture(table: config.AttackTable, victim: VictimStep) -> Path | None:
    """Return the picture that an attack's options name, a patch or a disguise; a missing one is a `UserError`."""
    option = "file" if table.name == IMPORTED else "disguise"
    name = str(table.options.get(option, ""))
    if table.name != IMPORTED and name in ("", "grey"):
        return None
    if not name:
        raise UserError(f'attack {IMPORTED!r}: give its file under --data, options = {{ file = "patches/theirs.png" }}')
    try:
        file = (victim.data_dir or Path()) / check_path(name)
    except UserError as error:
        raise UserError(f"attack {table.name!r}, option {option!r}: {error}") from error
    if not file.is_file():
        raise UserError(
            f"attack {table.name!r}: expected the option {option} to name a picture under --data, found no file {file}"
        )
    return file


def _imported_shape(table: config.AttackTable, victim: VictimStep) -> dict[str, Path | None]:
    """Return the shape of an imported patch, and its file unless it is a square or a disc."""
    if "shape" in table.model_fields_set:
        raise UserError(f"attack {table.name!r}: the shape of a patch is its file's own; leave shape out")
    file = picture(table, victim)
    assert file is not None
    shape = cutout(file).shape
    return {shape: None if shape in FILLS else file}
