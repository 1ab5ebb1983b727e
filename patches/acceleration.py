"""Run a surrogate faster: in bfloat16, or compiled. Options of every gradient attack."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from backends.device.errors import UserError
from patches.differentiable_defences import Defended
from patches.fake_quant.rounding import Fixed
from patches.surrogates import IN_FLOAT32
from patches.twins import Twin


def accelerate(surrogate: nn.Module, *, bfloat16: bool, compiled: bool) -> nn.Module:
    """Return the surrogate in bfloat16, which changes its outputs, or compiled, which does not.

    The integers of a twin and the levels of a fake-quantized network do not fit into bfloat16: a `UserError`. A defence
    in front of the surrogate stays in float32. Compiling takes half a minute and, on a CPU, a C++ compiler.
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
    """A bfloat16 copy of a network that takes float32 pixels and returns float32 logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        logits: Tensor = self.network(x.to(torch.bfloat16))
        return logits.float()
