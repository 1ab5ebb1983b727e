"""A network seen at other bits, with its own weights: ranges are those of the weights and of the batch itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from patches.fake_quant.network import FLOAT, PLAIN
from patches.fake_quant.rounding import rounded


class AtBits(nn.Module):
    """A network whose weights, and whatever they are multiplied with, are rounded to some bits, straight-through.

    Weights have one range a channel, activations one a batch; the first layer's inputs keep 8 bits, since they are
    pixels. The statistics of batch normalisation stay those of the network itself: a pass here leaves them alone. At 32
    bits it is the network, which may round to bits of its own.
    """

    def __init__(self, network: nn.Module, bits: int) -> None:
        super().__init__()
        self.network = network
        self.bits = bits

    def forward(self, x: Tensor) -> Any:
        """Return what the network returns."""
        if self.bits >= FLOAT:
            return self.network(x)
        weighted = {name: m for name, m in self.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        weights = {}
        with ExitStack() as stack:
            for number, (name, layer) in enumerate(weighted.items()):
                bits = self.bits if number else max(self.bits, PLAIN)
                hook = layer.register_forward_pre_hook(lambda _, inputs, bits=bits: _rounded_input(inputs[0], bits))
                stack.callback(hook.remove)
                entry, weight = _weight(name, layer)
                weights[entry] = _rounded_weight(weight, self.bits)
            stack.enter_context(_without_statistics(self.network))
            return functional_call(self.network, weights, (x,))


def _weight(name: str, layer: nn.Module) -> tuple[str, Tensor]:
    """Return the name and the tensor of a layer's weight, before the rounding that it may have itself."""
    prefix = f"{name}." if name else ""
    found: Any = layer
    if parametrize.is_parametrized(layer, "weight"):
        return f"{prefix}parametrizations.weight.original", found.parametrizations.weight.original
    return f"{prefix}weight", found.weight


def _rounded_weight(weight: Tensor, bits: int) -> Tensor:
    highest = 2 ** (bits - 1) - 1
    step = weight.detach().abs().flatten(1).amax(dim=1).div(highest).clamp_min(1e-12)
    return rounded(weight, step.reshape(-1, *[1] * (weight.ndim - 1)), -highest, highest)


def _rounded_input(x: Tensor, bits: int) -> Tensor:
    smallest = x.detach().amin().clamp_max(0)
    step = ((x.detach().amax().clamp_min(0) - smallest) / (2**bits - 1)).clamp_min(1e-12)
    low = int((smallest / step).round())
    return rounded(x, step, low, low + 2**bits - 1)


@contextmanager
def _without_statistics(network: nn.Module) -> Iterator[None]:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
