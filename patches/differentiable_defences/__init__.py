"""Differentiable defences: what `backends.device.defences` does to pixels, in torch. One per file, of the same name.

The forward pass is the defence itself; the backward pass treats rounding as the identity (backward pass differentiable
approximation, Athalye et al. 2018, "Obfuscated gradients give a false sense of security", section 4.1). Each module has
a class ``Differentiable``, made from the setting; inputs and outputs are float32 ``(n, 3, h, w)`` in [0, 1]. A defence
without a file here is done by the device's own code, and is the identity in the backward pass.

Of a defence that runs the network many times, the class also takes the network, and returns logits; it says so by
``runs_the_network = True``.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from backends.device.defences import defend, parse_defence
from backends.device.errors import UserError
from backends.device.names import modules
from patches.straight_through import as_pixels


class Defended(nn.Module):
    """A surrogate that sees its images through a defence."""

    def __init__(self, defence: nn.Module, surrogate: nn.Module) -> None:
        super().__init__()
        self.defence = defence
        self.surrogate = surrogate

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        if getattr(self.defence, "runs_the_network", False):
            logits: Tensor = self.defence(pixels, self.surrogate)
        else:
            logits = self.surrogate(self.defence(pixels))
        return logits


def defended(word: str, surrogate: nn.Module) -> Defended:
    """Put a defence, named as in a suite, in front of a surrogate."""
    return Defended(differentiable_defence(word), surrogate).eval()


def differentiable_defence(word: str) -> nn.Module:
    """Build a defence by its name in a suite, differentiable; an unknown name is a `UserError`."""
    defence = parse_defence(word)
    if defence.name not in modules(__path__):
        if defence.many_passes:
            raise UserError(f"defence {word!r}: no attack can expect it, for it has no differentiable version")
        return StraightThrough(word)
    made: nn.Module = importlib.import_module(f"{__name__}.{defence.name}").Differentiable(defence.setting)
    return made


class StraightThrough(nn.Module):
    """The device's own code forward, the identity backward."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images as a device makes them."""
        seen = torch.from_numpy(defend(self.word, as_pixels(pixels))).to(pixels.device)
        return pixels + (seen.permute(0, 3, 1, 2) / 255 - pixels).detach()
