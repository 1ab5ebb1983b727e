"""The torch modules that a caller passes or gets: checked, and wrapped so that they take pixels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from harness.api.arrays import told
from harness.networks.victims import Normalised
from patches.twins import Twin

HALF_A_LEVEL = 0.5 / 255


class FileTwin(nn.Module):
    """The twin of an INT8 file, as a network for any library: it refuses what are no pixels, and another dtype.

    Attributes:
        twin: What computes.
        size: (height, width) of its images.
    """

    def __init__(self, twin: Twin, size: tuple[int, int]) -> None:
        super().__init__()
        self.twin = twin
        self.size = size
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # libraries ask a parameter for the device
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits ``(n, outputs)`` of pixels in [0, 1], float32 ``(n, 3, h, w)``."""
        self._check(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            logits: Tensor = self.twin(pixels)
        return logits

    def integers(self, pixels: Tensor) -> Tensor:
        """Return the file's integers before any final softmax: int64 ``(n, outputs)``."""
        self._check(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            return self.twin.integers(pixels)

    def _check(self, pixels: Tensor) -> None:
        name = self.twin.path.name
        fits = isinstance(pixels, Tensor) and pixels.dtype == torch.float32 and pixels.shape[1:] == (3, *self.size)
        if not fits or not len(pixels):
            takes = f"torch.float32 (n, 3, {self.size[0]}, {self.size[1]})"
            raise UserError(f"twin of {name}: expected pixels, {takes}, got {told(pixels)}")
        low, high = (float(end) for end in pixels.detach().aminmax())
        if not (low >= -HALF_A_LEVEL and high <= 1 + HALF_A_LEVEL):
            raise UserError(
                f"twin of {name}: expected pixels in [0, 1], got {low:.3g} to {high:.3g}: divide by 255, and leave "
                "normalisation to the twin"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Refuse another dtype: float32 and float64 hold the twin's integers, and less or other would change them."""
        for dtype in (torch.float32, torch.float64):
            if fn(torch.zeros(1, dtype=dtype)).dtype != dtype:
                raise UserError(f"twin of {self.twin.path.name}: its integers need the dtypes they have; move it only")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def with_preproc(module: nn.Module, preproc: Preproc | None) -> nn.Module:
    """Return a copy of a module that takes RGB in [0, 1], on the CPU: behind its normalisation, if it has one."""
    if not isinstance(module, nn.Module):
        raise UserError(f"expected a torch module, got a {type(module).__name__}")
    if module.training:
        raise UserError(f"{type(module).__name__}: expected a module in eval mode; call its eval() first")
    given = preproc or Preproc()
    if replace(given, mean=Preproc.mean, std=Preproc.std) != Preproc():
        raise UserError(f"{given}: a torch module takes RGB over 255, channels first; only mean and std may be given")
    network = copy.deepcopy(module).cpu()
    return network if given == Preproc() else Normalised(network, given.mean, given.std).eval()


def classes_of(network: nn.Module, size: tuple[int, int]) -> int:
    """Return how many classes a network tells apart; one that gives no logits for an image is a `UserError`."""
    try:
        with torch.inference_mode():
            logits = network(torch.zeros(1, 3, *size))
    except Exception as error:  # a network can fail in any way
        raise UserError(f"the module fails on an image of {size[0]}x{size[1]}: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"the module gives no logits: expected (1, classes) for one image, got {got}")
    return logits.shape[1]
