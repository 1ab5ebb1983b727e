"""Patch and Pose; a patch as a file is an npz without pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.json_types import typed
from backends.device.reading import MEBIBYTE, DamagedFile, Expected, parse_json, read_npz

# Attacks that measure what size and place do alone, or what any picture does; the last is the attack's own patch.
CONTROLS = ("none", "grey", "noise", "sticker", "other_class")

ARRAYS = ("pixels", "mask", "corners")  # of a patch; its other fields go into one JSON string
PATCH_BYTES = 256 * MEBIBYTE  # a patch for each of 1700 images, as large as ImageNet's
FACTS_BYTES = 16 * MEBIBYTE


class Facts(TypedDict):
    """The fields of a patch that are no arrays, and the version of their format."""

    schema: Literal[1]
    name: str
    attack: str
    surrogate: str
    target_class: int | None
    seed: int
    shape: NotRequired[str]
    images: NotRequired[tuple[str, ...]]
    checks: NotRequired[dict[str, Any]]


class Pose(NamedTuple):
    """The largest change either way: degrees, then shares of size, of full brightness and of contrast."""

    rotation: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def label(self) -> str:
        """``rotation20-scale0.2``; empty without a pose."""
        return "-".join(f"{name}{value:g}" for name, value in self._asdict().items() if value)


UNPOSED = Pose()


@dataclass(frozen=True, eq=False)
class Patch:
    """An adversarial patch, or a control of its size: uint8 ``(p, p, 3)`` RGB, and where it covers, bool ``(p, p)``.

    Per-image patches have pixels ``(n, p, p, 3)`` and the ids of their ``images``. ``corners``, int32 ``(1 or n, 2)``,
    are the places that the attack chose (placement ``best``). ``target_class`` is None for controls and untargeted
    attacks. ``checks`` holds what crafting measured of itself (loss curve, share of zero gradients, seconds, steps,
    queries), never success.
    """

    name: str
    pixels: Pixels
    mask: NDArray[np.bool_]
    attack: str
    surrogate: str
    target_class: int | None
    seed: int
    shape: str = "square"  # or round, or the name of a file's own mask
    images: tuple[str, ...] = ()
    corners: NDArray[np.int32] | None = None
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def px(self) -> int:
        """Side in pixels."""
        return int(self.pixels.shape[-2])

    @property
    def sha256(self) -> str:
        """Hash of what is pasted: pixels, mask, and the places the attack chose."""
        places = b"" if self.corners is None else np.asarray(self.corners, "<i4").tobytes()
        return hashlib.sha256(self.pixels.tobytes() + np.packbits(self.mask).tobytes() + places).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write an npz without pickle: the arrays, and everything else as one JSON string."""
        arrays = {what: array for what in ARRAYS if (array := getattr(self, what)) is not None}
        facts = {k: v for k, v in asdict(self).items() if k not in ARRAYS}
        np.savez_compressed(path, **arrays, facts=np.array(json.dumps({"schema": 1} | facts)))

    @classmethod
    def read(cls, path: Path | str) -> Patch:
        """Read what `save` wrote; anything else is a `DamagedFile`."""
        path = Path(path)
        try:
            text = str(read_npz(path, {"facts": Expected((str,), ())}, FACTS_BYTES)["facts"])
            facts = typed(Facts, parse_json(text, str(path)), str(path))
            images = facts.get("images", ())
            each = (len(images),) if images else ()
            expected = {
                "pixels": Expected((np.uint8,), (*each, None, None, 3)),
                "mask": Expected((np.bool_,), (None, None)),
                "corners": Expected((np.int32,), (len(images) or 1, 2), required=False),
            }
            arrays = read_npz(path, expected, PATCH_BYTES)
        except DamagedFile as error:
            raise DamagedFile(f"{error}; expected a patch (an .npz written by craft)") from error
        del facts["schema"]
        patch = cls(**facts | arrays)
        if patch.mask.shape != (patch.px, patch.px) or patch.pixels.shape[-3] != patch.px:
            shapes = f"{patch.pixels.shape} and {patch.mask.shape}"
            raise DamagedFile(f"{path}: expected pixels and a mask of one square, got {shapes}")
        return patch
