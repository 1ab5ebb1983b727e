"""JPEG in torch; rounding has a straight-through gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from patches.straight_through import rounded

# ITU-T T.81, tables K.1 and K.2: quantization steps at quality 50, one row per vertical frequency.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF: RGB to Y, Cb, Cr; Cb and Cr are centred on 128.
YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


class Differentiable(nn.Module):
    """JPEG at a quality, saved and loaded with Pillow's defaults: chrominance at half the resolution (4:2:0).

    libjpeg transforms in fixed point, so that a quantized coefficient differs by one step now and then.
    """

    steps: Tensor
    basis: Tensor
    mix: Tensor
    unmix: Tensor

    def __init__(self, quality: int) -> None:
        super().__init__()
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        tables = torch.tensor((LUMINANCE, CHROMINANCE), dtype=torch.float32)
        self.register_buffer("steps", ((tables * scale + 50) / 100).floor().clamp(1, 255))
        self.register_buffer("basis", _cosines())
        self.register_buffer("mix", torch.tensor(YCBCR))
        self.register_buffer("unmix", torch.linalg.inv(torch.tensor(YCBCR, dtype=torch.float64)).float())

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images, saved and loaded."""
        height, width = pixels.shape[2:]
        levels = rounded(pixels * 255)
        # repeat the last row and column up to whole blocks of 16, which the halved chrominance needs
        wide = pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
        mixed = torch.einsum("kc,nchw->nkhw", self.mix, wide)
        luminance = self._coded(rounded(mixed[:, :1] - 128), 0)[:, :, :height, :width] + 128
        means = avg_pool2d(rounded(mixed[:, 1:]), 2)
        chrominance = self._coded(rounded(means, -_up_and_down(means)), 1)
        halved = chrominance[:, :, : math.ceil(height / 2), : math.ceil(width / 2)]
        # a triangle filter, as libjpeg's "fancy upsampling"
        full = interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
        full = rounded(full, _up_and_down(full))[:, :, :height, :width]
        both = torch.cat([luminance, full], dim=1)
        return rounded(torch.einsum("ck,nkhw->nchw", self.unmix, both)).clamp(0, 255) / 255

    def _coded(self, planes: Tensor, table: int) -> Tensor:
        """Quantize the cosine transform of zero-centred planes ``(n, c, h, w)``, in blocks of 8x8."""
        n, c, height, width = planes.shape
        blocks = planes.reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
        steps = self.steps[table]
        shares = self.basis @ blocks @ self.basis.T / steps
        kept = rounded(shares, 1e-3 * shares.sign()) * steps  # round half away from zero
        back = rounded(self.basis.T @ kept @ self.basis).clamp(-128, 127)
        return back.transpose(3, 4).reshape(n, c, height, width)


def _up_and_down(x: Tensor) -> Tensor:
    """Round halves up and down in alternate columns, as libjpeg does, so that no bias remains."""
    return 0.01 * (1 - 2 * (torch.arange(x.shape[3], device=x.device) % 2))


def _cosines() -> Tensor:
    """Return the orthonormal DCT-II of 8 values: ``(frequency, position)``."""
    k, x = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    basis = torch.cos((2 * x + 1) * k * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
