"""What an attack minimises, as a function of logits ``(n, classes)`` and labels ``(n,)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Objective = Callable[[Tensor, Tensor], Tensor]


def objective(target_class: int | None) -> Objective:
    """The loss of an attack: targeted at a class, or untargeted where that is None."""
    if target_class is None:
        return untargeted
    return lambda logits, labels: targeted(logits, target_class)


def targeted(logits: Tensor, target_class: int) -> Tensor:
    """Mean cross entropy to the target class: minus the log likelihood that Brown et al. 2017 (section 2) maximise."""
    return cross_entropy(logits, torch.full((len(logits),), target_class, device=logits.device))


def untargeted(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the mean cross entropy to the label: the loss that Madry et al. 2018 (equation 2.1) maximise."""
    return -cross_entropy(logits, labels)
