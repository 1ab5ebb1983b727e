"""Distillation: a network learns another one's answers, on images that are mixtures of two; no label is needed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mixed(images: Tensor, most: float) -> Tensor:
    """Images ``(n, ...)``, each with a share of another in it, drawn between 0 and ``most`` (Zhang et al. 2018)."""
    share = most * torch.rand(len(images), *[1] * (images.ndim - 1))
    return torch.lerp(images, images[torch.randperm(len(images))], share)


def divergence(given: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence of logits ``given`` ``(n, classes)`` from those ``wanted``, at a temperature.

    Times its square, so that gradients do not shrink with it (Hinton, Vinyals and Dean 2015, section 2).
    """
    found, expected = (functional.log_softmax(logits / temperature, dim=1) for logits in (given, wanted))
    return functional.kl_div(found, expected, log_target=True, reduction="batchmean") * temperature**2
