"""TriQDef: what the network computes at different bits is made to look different, so that patches transfer less.

Guesmi, Ouni and Shafique 2026, ICLR, arXiv 2508.12132: the cross-entropy, plus 0.8 times the feature disalignment
penalty (FDP, section 3.2, equation 2), plus 0.5 times the gradient perceptual dissonance penalty (GPDP, section 3.3;
weights of table 13). Both compare two bit-widths by soft edges and soft orientations (`patches.structure`): FDP early
and middle layers, GPDP the gradients of the loss by pixels; both on images with patches. The curriculum (BACT, section
3.4) begins with the high widths and adds the lower ones.

Ours, for we read the equations as others quote them and not the paper: each step draws two of the widths in use, and
penalties are means over layers in place of sums, as are the two measures; the layers are three convolutions of the
first half; a width is added after each fifth of the training; patches are those of `pat`, made on the network itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from patches.fake_quant.dynamic import AtBits
from patches.structure import soft_dice, soft_hog_cosine
from patches.training_defences import Step
from patches.training_defences.pat import half_patched

BITS = (32, 8, 5, 4, 2)
FIRST = 2  # widths from the start
FEATURES = 0.8
GRADIENTS = 0.5
LAYERS = 3


def loss(step: Step, patch_px: int) -> Tensor:
    """Learn the right answers at two widths, and to compute them unlike each other where there are patches."""
    half = len(step.images) // 2
    images = half_patched(step, patch_px).requires_grad_()
    in_use = widths(step.number, step.of)
    drawn = [in_use[i] for i in torch.randperm(len(in_use))[:2].tolist()]
    losses, gradients, features = [], [], []
    for bits in drawn:
        with watched(step.network) as seen:
            value = step._replace(network=AtBits(step.network, bits)).loss(images)
        losses.append(value)
        gradients.append(torch.autograd.grad(value, images, create_graph=True)[0][half:])
        features.append([maps[half:] for maps in seen])
    likenesses = [likeness(a, b) for a, b in zip(*features, strict=True)]
    penalty = FEATURES * torch.stack(likenesses).mean() + GRADIENTS * likeness(*gradients)
    return torch.stack(losses).mean() + penalty


def widths(number: int, of: int) -> tuple[int, ...]:
    """Return the widths in use at a step: another lower one after each equal part of the training."""
    parts = len(BITS) - FIRST + 1
    return BITS[: FIRST + number * parts // of]


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """Return how much two stacks of maps ``(n, c, h, w)`` look alike, from edges and orientations: 1 if the same."""
    return (soft_dice(a, b) + soft_hog_cosine(a, b)).mean() / 2


@contextmanager
def watched(network: nn.Module) -> Iterator[list[Tensor]]:
    """Yield the list that a pass fills with the outputs of some early and middle convolutions."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    first_half = convolutions[: (len(convolutions) + 1) // 2]
    chosen = [first_half[-1 - i * len(first_half) // LAYERS] for i in range(min(LAYERS, len(first_half)))]
    seen: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda _, inputs, output: seen.append(output)) for layer in chosen]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
