"""A disguise: a picture that a patch stays near (Brown et al. 2017, section 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backends.device.errors import UserError
from patches.problem import Problem


def value_bounds(disguise: str, within: float, problem: Problem) -> tuple[Tensor, Tensor]:
    """The least and greatest value that a patch may have at each pixel, ``(1, 3, p, p)`` in [0, 1].

    `disguise` is empty for no bound but [0, 1], ``grey``, or the path of a picture, which is shrunk or stretched to the
    patch's side. A picture that can't be read, or a bound that leaves nothing, is a `UserError`.
    """
    if not disguise:
        return torch.zeros(1, 1, 1, 1, device=problem.device), torch.ones(1, 1, 1, 1, device=problem.device)
    if not 0 < within <= 1:
        raise UserError(f"disguise: expected within above 0 and up to 1, got {within:g}")
    if disguise == "grey":
        picture = torch.full((1, 3, problem.px, problem.px), 128 / 255)
    else:
        picture = _read(Path(disguise), problem.px)
    picture = picture.to(problem.device)
    return (picture - within).clamp_min(0), (picture + within).clamp_max(1)


def _read(path: Path, px: int) -> Tensor:
    try:
        with Image.open(path) as whole:
            small = whole.convert("RGB").resize((px, px), Image.Resampling.BILINEAR)
    except (OSError, ValueError) as error:
        raise UserError(f"disguise {path}: expected grey, or a picture that can be read ({error})") from error
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
