"""A file's operators in order as one torch module: pixels in, the file's own integers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backends.device.artifact import Preproc
from backends.device.errors import UserError


class Quant(NamedTuple):
    """What a tensor's integers mean, ``real = scale * (integer - zero_point)``, and the range of their type."""

    scale: float
    zero_point: int
    lowest: int
    highest: int

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest steps."""
        return self.lowest - self.zero_point, self.highest - self.zero_point


class Step(NamedTuple):
    """An operator: the names of the tensors that it takes, of the one that it gives, and what computes it."""

    inputs: tuple[str, ...]
    output: str
    layer: nn.Module


class Twin(nn.Module):
    """A frozen network from pixels in [0, 1], float32 ``(n, 3, h, w)``, to logits ``(n, outputs)``.

    The pixels are rounded to the 256 levels that a device gets. ``steps`` run in order, the first takes ``pixels``.
    Logits are the real values of the integers before any final softmax; with a ``class_offset`` the outputs before the
    first class come last, so that an output's index is its class.
    """

    def __init__(
        self,
        path: Path,
        kernels: str,
        preproc: Preproc,
        steps: Sequence[Step],
        output: str,
        quant: Quant,
        class_offset: int = 0,
    ) -> None:
        super().__init__()
        self.path, self.kernels, self.preproc, self.class_offset = path, kernels, preproc, class_offset
        self.output, self.quant = output, quant  # the tensor that the twin ends with
        self.layers = nn.ModuleList(step.layer for step in steps)
        self._steps = tuple(steps)
        self._uses = Counter(name for step in steps for name in step.inputs)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(n, outputs)``."""
        return self._run(pixels).mul(self.quant.scale).roll(-self.class_offset, dims=1)

    @torch.no_grad()
    def integers(self, pixels: Tensor) -> Tensor:
        """The file's own integers before any final softmax: int64 ``(n, outputs)``, in the file's order."""
        return self._run(pixels).to(torch.int64) + self.quant.zero_point

    def _run(self, pixels: Tensor) -> Tensor:
        values, waiting = {"pixels": pixels}, Counter(self._uses)
        for (inputs, output, _), layer in zip(self._steps, self.layers, strict=True):
            values[output] = layer(*(values[name] for name in inputs))
            waiting.subtract(inputs)
            for name in inputs:
                if not waiting[name] and name != self.output:
                    values.pop(name, None)
        return values[self.output].reshape(len(pixels), -1)


def single(steps: Sequence[Step], path: Path) -> None:
    """Requires that no two operators give a tensor of the same name."""
    twice = [name for name, n in Counter(step.output for step in steps).items() if n > 1]
    if twice:
        raise UserError(f"{path}: two operators give a tensor named {twice[0]!r}; a twin can't tell them apart")
