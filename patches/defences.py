"""Defences as torch sees them: what `backends.device.defences` does to pixels, with gradients.

Forward they are the defence itself, backward what goes through it: where it rounds, the gradient passes as if it had
not (backward pass differentiable approximation, Athalye et al. 2018, "Obfuscated gradients give a false sense of
security", section 4.1). All take and give float32 ``(n, 3, h, w)`` in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from backends.device.defences import parse_defence

# ITU-T T.81, tables K.1 and K.2: steps of luminance and chrominance at quality 50, a row a vertical frequency.
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
# JFIF: from RGB to Y, Cb, Cr, the latter two around 128.
YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


class Defended(nn.Module):
    """A surrogate that sees pixels after a defence."""

    def __init__(self, defence: nn.Module, surrogate: nn.Module) -> None:
        super().__init__()
        self.defence, self.surrogate = defence, surrogate

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        logits: Tensor = self.surrogate(self.defence(pixels))
        return logits


def defended(word: str, surrogate: nn.Module) -> Defended:
    """A surrogate behind the stand-in of a defence, named as a suite names it."""
    return Defended(differentiable_defence(word), surrogate).eval()


def differentiable_defence(word: str) -> nn.Module:
    """The differentiable stand-in of a defence; a word that names none is a `UserError`."""
    kind, setting = parse_defence(word)
    return Jpeg(setting) if kind == "jpeg" else Median(setting)


class Jpeg(nn.Module):
    """A JPEG of a quality, saved and loaded as Pillow does by default: chrominance halved both ways (4:2:0).

    It differs from libjpeg by the fixed point of its transforms: now and then by a step of a quantized coefficient.
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
        """The images, saved and loaded."""
        height, width = pixels.shape[2:]
        levels = _rounded(pixels * 255)
        # to whole blocks of 16, as the halved chrominance needs them, by repeating the last row and column
        wide = pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
        mixed = torch.einsum("kc,nchw->nkhw", self.mix, wide)
        luminance = self._coded(_rounded(mixed[:, :1] - 128), 0)[:, :, :height, :width] + 128
        means = avg_pool2d(_rounded(mixed[:, 1:]), 2)
        chrominance = self._coded(_rounded(means, -_up_and_down(means)), 1)
        halved = chrominance[:, :, : math.ceil(height / 2), : math.ceil(width / 2)]
        # a triangle filter, as libjpeg's "fancy upsampling"
        full = interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
        full = _rounded(full, _up_and_down(full))[:, :, :height, :width]
        both = torch.cat([luminance, full], dim=1)
        return _rounded(torch.einsum("ck,nkhw->nchw", self.unmix, both)).clamp(0, 255) / 255

    def _coded(self, planes: Tensor, table: int) -> Tensor:
        """Planes ``(n, c, h, w)`` around zero, in whole blocks of 8, after quantization of their cosine transform."""
        n, c, height, width = planes.shape
        blocks = planes.reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
        steps = self.steps[table]
        shares = self.basis @ blocks @ self.basis.T / steps
        kept = _rounded(shares, 1e-3 * shares.sign()) * steps  # halves away from zero
        back = _rounded(self.basis.T @ kept @ self.basis).clamp(-128, 127)
        return back.transpose(3, 4).reshape(n, c, height, width)


class Median(nn.Module):
    """The median of a square around each pixel, by channel; the gradient goes to the pixel that is the median."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, pixels: Tensor) -> Tensor:
        """The images, filtered."""
        reach = self.side // 2
        wide = pad(_rounded(pixels * 255), (reach,) * 4, mode="replicate")
        windows = wide.unfold(2, self.side, 1).unfold(3, self.side, 1).flatten(4)
        return windows.median(dim=4).values / 255


def _rounded(x: Tensor, ties: Tensor | float = 0.0) -> Tensor:
    """Whole numbers forward; backward as if nothing had happened. `ties`, a little, says which way a half goes."""
    return x + ((x + ties).round() - x).detach()


def _up_and_down(x: Tensor) -> Tensor:
    """Halves go up in every other column and down between, as libjpeg has it so as to add nothing on the whole."""
    return 0.01 * (1 - 2 * (torch.arange(x.shape[3], device=x.device) % 2))


def _cosines() -> Tensor:
    """The orthonormal discrete cosine transform of 8 values (DCT-II): ``(frequency, place)``."""
    k, x = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    basis = torch.cos((2 * x + 1) * k * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
