"""Faster passes of a surrogate, at a price: in bfloat16, or compiled. Options that every attack on gradients has."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from backends.device.errors import UserError
from patches.defences import Defended
from patches.fake_quant.rounding import Fixed
from patches.surrogates import IN_FLOAT32
from patches.twins import Twin


def accelerate(surrogate: nn.Module, *, bfloat16: bool, compiled: bool) -> nn.Module:
    """The surrogate in bfloat16, another function within its 8 bits, or compiled, which is the same one.

    The integers of a twin, and the levels of what is rounded, do not fit into bfloat16: a `UserError`. The stand-in of
    a defence before it stays as it is. Compiling takes half a minute, and on a CPU a C++ compiler.
    """
    if isinstance(surrogate, Defended):
        inner = accelerate(surrogate.surrogate, bfloat16=bfloat16, compiled=compiled)
        return Defended(surrogate.defence, inner)
    if bfloat16:
        if any(isinstance(part, Twin | Fixed) for part in surrogate.modules()):
            raise UserError(f"option bfloat16: {IN_FLOAT32}")
        surrogate = InBfloat16(surrogate)
    return torch.compile(surrogate) if compiled else surrogate  # type: ignore[return-value]


class InBfloat16(nn.Module):
    """A network whose weights and activations are bfloat16, between float32 pixels and float32 logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        logits: Tensor = self.network(x.to(torch.bfloat16))
        return logits.float()
