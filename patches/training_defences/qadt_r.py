"""Quantization-aware defence training with randomization (QADT-R): other bits and other patches in every step.

Guesmi, Ouni and Shafique 2025, arXiv 2503.07058, name three parts in their abstract: patches are made within the
quantized network (A-QAPA), bit-widths cycle during training (DBWT), and controlled perturbations of gradients disturb
the attacker's optimisation (GIR).

Ours, for we found the abstract and none of the equations: the widths and their order, one a step; patches are those of
`pat`, made on the network at the step's width, and learned beside images without; the gradient of the logits gets
normal noise of a tenth of its length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patches.fake_quant.dynamic import AtBits
from patches.training_defences import Step
from patches.training_defences.pat import half_patched

BITS = (32, 8, 5, 4, 2)
NOISE = 0.1


def loss(step: Step, patch_px: int) -> Tensor:
    """Learn the right answers to images with patches and without at the bits whose turn it is."""
    seen = step._replace(network=AtBits(step.network, BITS[step.number % len(BITS)]))
    logits = seen.logits(half_patched(seen, patch_px))
    logits.register_hook(perturbed)  # type: ignore[no-untyped-call]
    return step.criterion(logits, step.wanted)


def perturbed(gradient: Tensor) -> Tensor:
    """Return a gradient with noise of a share of its length."""
    noise = torch.randn_like(gradient)
    scale: Tensor = NOISE * gradient.norm() / noise.norm()
    return gradient + scale * noise
