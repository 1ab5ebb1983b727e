"""Transposed convolutions as convolutions, which have integer kernels everywhere."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional


def sub_pixel(network: nn.Module) -> nn.Module:
    """Return the network, or if it has transposed convolutions a copy of it with a `SubPixel` for each."""
    if not any(map(_is_replaced, network.modules())):
        return network
    changed = copy.deepcopy(network)
    for name, module in list(changed.named_modules()):
        if _is_replaced(module):
            changed.set_submodule(name, SubPixel(module))  # type: ignore[arg-type]
    return changed


def _is_replaced(module: nn.Module) -> bool:
    """Whether a module is a transposed convolution of even strides, neither dilated nor in groups."""
    if not isinstance(module, nn.ConvTranspose2d):
        return False
    return module.stride[0] == module.stride[1] and module.dilation == (1, 1) and module.groups == 1


class SubPixel(nn.Module):
    """A transposed convolution as one that gives each pixel of a stride as channels of its own (Shi et al. 2016)."""

    def __init__(self, of: nn.ConvTranspose2d) -> None:
        super().__init__()
        inputs, outputs, height, width = of.weight.shape
        self.step, self.outputs = of.stride[0], outputs
        self.window = height, width
        assert not isinstance(of.padding, str)  # as a convolution's may be
        self.pads = of.padding[0], of.padding[1]
        self.more = of.output_padding[0], of.output_padding[1]
        high, wide = -(-height // self.step), -(-width // self.step)
        self.before = high - 1, wide - 1
        beyond = 0, wide * self.step - width, 0, high * self.step - height
        tiles = functional.pad(of.weight.detach(), beyond).reshape(inputs, outputs, high, self.step, wide, self.step)
        kernel = tiles.flip(2, 4).permute(3, 5, 1, 0, 2, 4).reshape(-1, inputs, high, wide)
        self.convolution = nn.Conv2d(inputs, len(kernel), (high, wide), bias=of.bias is not None)
        self.convolution.weight = nn.Parameter(kernel.contiguous())
        if of.bias is not None:
            self.convolution.bias = nn.Parameter(of.bias.detach().repeat(self.step**2))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return what the transposed convolution returns."""
        height, below = self._side(0, x.shape[2])
        width, right = self._side(1, x.shape[3])
        (above, left), (top, first) = self.before, self.pads
        parts: Tensor = self.convolution(functional.pad(x, (left, right, above, below)))
        images, _, rows, columns = parts.shape
        pixels = parts.reshape(images, self.step, self.step, self.outputs, rows, columns).permute(0, 3, 4, 1, 5, 2)
        whole = pixels.reshape(images, self.outputs, rows * self.step, columns * self.step)
        return whole[:, :, top : top + height, first : first + width]

    def _side(self, axis: int, n: int) -> tuple[int, int]:
        """Return the output's size along an axis, and how much to pad behind the input for it."""
        size = (n - 1) * self.step - 2 * self.pads[axis] + self.window[axis] + self.more[axis]
        return size, max(-(-(self.pads[axis] + size) // self.step) - n, 0)
