"""From pixels in [0, 1] to a file's input, exactly as the device preprocesses in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backends.device.artifact import Preproc
from patches.twins.network import Quant
from patches.twins.straight_through import rounded


class Preprocess(nn.Module):
    """Round pixels ``(n, 3, h, w)`` in [0, 1] to 256 levels and turn them into a file's real input."""

    def __init__(self, preproc: Preproc) -> None:
        super().__init__()
        order = slice(None, None, -1 if preproc.channel_order == "bgr" else 1)
        self.reverse = preproc.channel_order == "bgr"
        self.nhwc = preproc.layout == "nhwc"
        self.divisor = preproc.divisor
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", preproc.mean), ("std", preproc.std)):
            self.register_buffer(name, torch.tensor(values[order], dtype=torch.float32).reshape(3, 1, 1))
        self.is_plain = not any(preproc.mean) and set(preproc.std) == {1.0}

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 reals in the file's layout."""
        x = rounded(lambda p: torch.round(p * 255), 0, 255, (255.0,), pixels)
        x = (x.flip(1) if self.reverse else x) / self.divisor
        x = x if self.is_plain else (x - self.mean) / self.std
        return x.permute(0, 2, 3, 1) if self.nhwc else x


class Quantized(nn.Module):
    """Quantize reals to steps: divide by the scale in float32, round half to even, clip."""

    def __init__(self, quant: Quant) -> None:
        super().__init__()
        self.scale = quant.scale
        self.bounds = quant.bounds

    def forward(self, x: Tensor) -> Tensor:
        """Return steps of the input."""
        return rounded(lambda x: torch.round(x / torch.tensor(self.scale)), *self.bounds, (1 / self.scale,), x)
