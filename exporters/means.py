"""Global average pooling for torch's ONNX exporter, which reshapes it by a loop where its input has channels last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class _Mean(nn.Module):
    """The mean over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(n, channels, 1, 1)``."""
        return x.mean((-2, -1), keepdim=True)


@contextmanager
def pooling_by_means(network: nn.Module) -> Iterator[nn.Module]:
    """Let a network's modules pool to one pixel by taking the mean, which is the same number."""
    pools = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1))
    ]
    try:
        for parent, name, _ in pools:
            setattr(parent, name, _Mean())
        yield network
    finally:
        for parent, name, pool in pools:
            setattr(parent, name, pool)
