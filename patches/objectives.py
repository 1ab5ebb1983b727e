"""Losses that attacks minimise, as functions of logits ``(n, classes)`` and labels ``(n,)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Objective = Callable[[Tensor, Tensor], Tensor]


def objective(target_class: int | None) -> Objective:
    """Return the mean loss of an attack on a target class, or of an untargeted one for None."""
    return lambda logits, labels: cross_entropies(target_class)(logits, labels).mean()


def cross_entropies(target_class: int | None) -> Objective:
    """Return the same loss per image, ``(n,)``."""
    if target_class is None:
        return untargeted
    return lambda logits, labels: targeted(logits, target_class)


def targeted(logits: Tensor, target_class: int) -> Tensor:
    """Return the cross entropy to the target class, whose negative Brown et al. 2017 (section 2) maximise."""
    return cross_entropy(logits, torch.full((len(logits),), target_class, device=logits.device), reduction="none")


def untargeted(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the cross entropy to the label, which Madry et al. 2018 (equation 2.1) maximise."""
    return -cross_entropy(logits, labels, reduction="none")


def label_margins(target_class: int | None) -> Objective:
    """Return the label's logit minus the target class's, ``(n,)``: the loss of LaVAN (Karmon et al. 2018, section 3).

    Untargeted, it is the label's logit minus the highest other one; for an image of the target class, the reverse.
    Unlike a cross entropy it does not flatten where the network is confident.
    """

    def margin(logits: Tensor, labels: Tensor) -> Tensor:
        own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        label, others = logits[own], logits.masked_fill(own, -torch.inf).amax(1)
        if target_class is None:
            return label - others
        goal = logits[:, target_class]
        return torch.where(labels == target_class, others - label, label - goal)

    return margin
