"""The victim as its integers would compute, at any bitwidth, in float: trained to it, or merely rounded."""

from __future__ import annotations

from torch import nn

from patches.fake_quant import Source


def surrogate(source: Source) -> nn.Module:
    """The fake-quantized network; straight-through gradients, none where an activation is clipped."""
    from patches.fake_quant.network import fake_quantized

    return fake_quantized(*source)
