"""A patch and how it lies: pixels, mask, pose; as a file, an npz without pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.errors import UserError

# Attacks that say what size and place do by themselves, or any picture does; the last is a patch of the attack's own.
CONTROLS = ("none", "grey", "noise", "sticker", "other_class")

ARRAYS = ("pixels", "mask", "corners")  # of a patch; its other fields are facts


class Pose(NamedTuple):
    """How far a pose may go, either way: degrees, shares of the size, of the full brightness and of the contrast."""

    rotation: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def label(self) -> str:
        """``rotation20-scale0.2``; empty for a patch that lies as it is."""
        return "-".join(f"{name}{value:g}" for name, value in self._asdict().items() if value)


UNPOSED = Pose()


@dataclass(frozen=True, eq=False)
class Patch:
    """An adversarial patch, or a control of its size: uint8 ``(p, p, 3)`` RGB, and where it covers, bool ``(p, p)``.

    One made for each image has pixels ``(n, p, p, 3)`` and says for which ``images``, by id. ``corners``, int32
    ``(1 or n, 2)``, are the places that the attack chose (placement ``best``). ``target_class`` is None for controls
    and untargeted attacks. ``checks`` holds what the crafting measured of itself (loss curve, share of zero gradients,
    seconds, gradient steps, queries); it says nothing about success.
    """

    name: str
    pixels: Pixels
    mask: NDArray[np.bool_]
    attack: str
    surrogate: str
    target_class: int | None
    seed: int
    shape: str = "square"  # or round, or the name of a mask of a file's own
    images: tuple[str, ...] = ()
    corners: NDArray[np.int32] | None = None
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def px(self) -> int:
        """Side in pixels."""
        return int(self.pixels.shape[-2])

    @property
    def sha256(self) -> str:
        """Hash of the bytes that are pasted: pixels, then mask, then the places that belong to it."""
        places = b"" if self.corners is None else np.asarray(self.corners, "<i4").tobytes()
        return hashlib.sha256(self.pixels.tobytes() + np.packbits(self.mask).tobytes() + places).hexdigest()

    def save(self, path: Path) -> None:
        """Writes an npz without pickle; everything but the arrays is one JSON string in it."""
        arrays = {what: array for what in ARRAYS if (array := getattr(self, what)) is not None}
        facts = {k: v for k, v in asdict(self).items() if k not in ARRAYS}
        np.savez_compressed(path, **arrays, facts=np.array(json.dumps({"schema": 1} | facts)))

    @classmethod
    def read(cls, path: Path) -> Patch:
        """Reads what `save` wrote; anything else is a `UserError` naming the file."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                facts = json.loads(str(arrays["facts"]))
                if facts.pop("schema") != 1:
                    raise UserError(f"{path}: expected a patch of schema 1")
                facts["images"] = tuple(facts.get("images", ()))
                corners = arrays["corners"].astype(np.int32) if "corners" in arrays else None
                patch = cls(pixels=arrays["pixels"], mask=arrays["mask"].astype(bool), corners=corners, **facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a patch, which is a .npz that craft wrote ({error})") from error
        side, each = patch.pixels.shape[-2:-1], (len(patch.images),) * bool(patch.images)
        if (
            patch.pixels.dtype != np.uint8
            or patch.pixels.shape != (*each, *side * 2, 3)
            or patch.mask.shape != side * 2
        ):
            raise UserError(
                f"{path}: expected uint8 (p, p, 3), or (n, p, p, 3) for n images, and a mask (p, p), "
                f"got {patch.pixels.shape} for {len(patch.images)} images"
            )
        if patch.corners is not None and patch.corners.shape != (len(patch.images) or 1, 2):
            raise UserError(f"{path}: expected corners ({len(patch.images) or 1}, 2), got {patch.corners.shape}")
        return patch
