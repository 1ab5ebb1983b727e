"""The twin: a file's operators in order as one torch module, pixels in, the file's own integers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from backends.device.reading import first_line


class Quant(NamedTuple):
    """A tensor's quantization, ``real = scale * (integer - zero_point)``, and the range of its type."""

    scale: float
    zero_point: int
    lowest: int
    highest: int

    @property
    def bounds(self) -> tuple[int, int]:
        """Lowest and highest step."""
        return self.lowest - self.zero_point, self.highest - self.zero_point


REALS = Quant(1.0, 0, -(2**31), 2**31)  # of a tensor that holds reals in place of steps


class Node(NamedTuple):
    """An operator: the names of its inputs and its output, and the layer that computes it.

    ``label`` names the operator; ``shape`` is that of one image's output, -1 where an axis is free, if it is known;
    ``quant`` is the output's, where it holds steps.
    """

    inputs: tuple[str, ...]
    output: str
    layer: nn.Module
    label: str = "of the pixels"
    shape: tuple[int, ...] | None = None
    quant: Quant | None = None


class Twin(nn.Module):
    """A frozen network from pixels in [0, 1], float32 ``(n, 3, h, w)``, to logits ``(n, outputs)``.

    The pixels are rounded to the 256 levels that a device gets. ``nodes`` run in order; the first takes ``pixels``.
    Logits are the real values of the integers before any final softmax. With a ``class_offset`` the outputs before the
    first class come last, so that an output's index is its class.
    """

    def __init__(
        self,
        path: Path,
        kernels: str,
        preproc: Preproc,
        nodes: Sequence[Node],
        output: str,
        quant: Quant,
        class_offset: int = 0,
    ) -> None:
        super().__init__()
        self.path = path
        self.kernels = kernels
        self.preproc = preproc
        self.class_offset = class_offset
        self.output = output  # the tensor that the twin ends with
        self.quant = quant
        self.layers = nn.ModuleList(node.layer for node in nodes)
        self._nodes = tuple(nodes)
        self._uses = Counter(name for node in nodes for name in node.inputs)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits ``(n, outputs)``."""
        return self._run(pixels).mul(self.quant.scale).roll(-self.class_offset, dims=1)

    @torch.no_grad()
    def integers(self, pixels: Tensor) -> Tensor:
        """Return the file's integers before any final softmax: int64 ``(n, outputs)``, in the file's order."""
        return self._run(pixels).to(torch.int64) + self.quant.zero_point

    def beginnings(self) -> Iterator[tuple[str, Twin]]:
        """Yield each operator that gives integers, in order, and the twin of the file as far as that."""
        for count, node in enumerate(self._nodes, 1):
            if node.quant is not None:
                nodes = self._nodes[:count]
                yield node.label, Twin(self.path, self.kernels, self.preproc, nodes, node.output, node.quant)

    def _run(self, pixels: Tensor) -> Tensor:
        values = {"pixels": pixels}
        waiting = Counter(self._uses)
        for node, layer in zip(self._nodes, self.layers, strict=True):
            values[node.output] = self._step(node, layer, [values[name] for name in node.inputs])
            waiting.subtract(node.inputs)
            for name in node.inputs:
                if not waiting[name] and name != self.output:
                    values.pop(name, None)
        return values[self.output].reshape(len(pixels), -1)

    def _step(self, node: Node, layer: nn.Module, operands: list[Tensor]) -> Tensor:
        """Compute an operator; one that does not fit its tensors, or mixes images, is a `UserError` that names it."""
        try:
            out: Tensor = layer(*operands)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise self._misfit(node, first_line(error)) from error
        images = len(operands[0])
        if len(out) != images or not _fits(out.shape[1:], node.shape):
            expected = f"expected {(images, *node.shape)}" if node.shape is not None else f"of {images} images"
            raise self._misfit(node, f"it gives {tuple(out.shape)}, {expected}")
        return out

    def _misfit(self, node: Node, why: str) -> UserError:
        return UserError(f"{self.path}: operator {node.label} has no twin in this use: {why}")


def _fits(shape: torch.Size, expected: tuple[int, ...] | None) -> bool:
    """Whether a shape is the expected one, which may have free axes, or be unknown."""
    if expected is None:
        return True
    return len(shape) == len(expected) and all(want in (-1, have) for have, want in zip(shape, expected, strict=True))


def require_unique_outputs(nodes: Sequence[Node], path: Path) -> None:
    """Raise a `UserError` where two operators write a tensor of the same name."""
    twice = [name for name, n in Counter(node.output for node in nodes).items() if n > 1]
    if twice:
        raise UserError(f"{path}: two operators write a tensor named {twice[0]!r}; a twin cannot tell them apart")
