"""A disguise: a picture that the patch has to stay close to (Brown et al. 2017, section 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backends.device.errors import UserError
from backends.device.pictures import read_picture
from backends.device.reading import DamagedFile
from patches.problem import Problem


def value_bounds(disguise: str, within: float, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value that each pixel of a patch may take, ``(1, 3, p, p)`` in [0, 1].

    `disguise` is empty for [0, 1] alone, ``grey``, or the path of a picture, which is resized to the patch. An
    unreadable picture or an empty range is a `UserError`.
    """
    if not disguise:
        return torch.zeros(1, 1, 1, 1, device=problem.device), torch.ones(1, 1, 1, 1, device=problem.device)
    if not 0 < within <= 1:
        raise UserError(f"disguise: option within must be above 0 and at most 1, got {within:g}")
    if disguise == "grey":
        picture = torch.full((1, 3, problem.px, problem.px), 128 / 255)
    else:
        picture = _read(Path(disguise), problem.px)
    picture = picture.to(problem.device)
    return (picture - within).clamp_min(0), (picture + within).clamp_max(1)


def _read(path: Path, px: int) -> Tensor:
    try:
        small = read_picture(path, "RGB").resize((px, px), Image.Resampling.BILINEAR)
    except DamagedFile as error:
        raise UserError(f"disguise: expected grey, or a picture that can be read: {error}") from error
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
