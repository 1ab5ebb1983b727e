"""What TOSA's specification computes otherwise than TFLite's portable kernels, which it follows in all else.

Its numbers are signed: an unsigned file's are moved by 128. (TOSA specification 1.0, AVG_POOL2D and RECIPROCAL_SCALE.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from patches.twins.network import Quant


class Average(nn.Module):
    """Average pooling: the sum of a window's integers times the reciprocal of their number, rounded half up."""

    def __init__(self, quant: Quant, counts: Tensor) -> None:
        super().__init__()
        self.zero_point = quant.zero_point - quant.lowest - 128
        self.counts: Tensor
        self.bits: Tensor
        self.register_buffer("counts", counts.to(torch.int64))
        bits = [(int(n) - 1).bit_length() for n in counts.flatten()]
        self.register_buffer("bits", torch.tensor(bits).reshape(counts.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return steps; ``x`` is the sum of the steps of each window."""
        multiplier = (((1 << 30) + 1) << self.bits) // self.counts
        products = (x.to(torch.int64) + self.counts * self.zero_point) * multiplier
        shift = self.bits + 30
        return products.add_(1 << (shift - 1)).bitwise_right_shift_(shift).sub_(self.zero_point)
