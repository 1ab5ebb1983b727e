"""What an attack minimises, as a function of logits ``(n, classes)`` and labels ``(n,)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Objective = Callable[[Tensor, Tensor], Tensor]


def objective(target_class: int | None) -> Objective:
    """The loss of an attack: targeted at a class, or untargeted where that is None."""
    return lambda logits, labels: cross_entropies(target_class)(logits, labels).mean()


def cross_entropies(target_class: int | None) -> Objective:
    """The same for each image, ``(n,)``."""
    if target_class is None:
        return untargeted
    return lambda logits, labels: targeted(logits, target_class)


def targeted(logits: Tensor, target_class: int) -> Tensor:
    """Cross entropy to the target class: minus the log likelihood that Brown et al. 2017 (section 2) maximise."""
    return cross_entropy(logits, torch.full((len(logits),), target_class, device=logits.device), reduction="none")


def untargeted(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the cross entropy to the label: the loss that Madry et al. 2018 (equation 2.1) maximise."""
    return -cross_entropy(logits, labels, reduction="none")


def label_margins(target_class: int | None) -> Objective:
    """The label's logit less the target class's, ``(n,)``: what Karmon et al. 2018 (LaVAN, section 3) bring down.

    Of an image of the target class, or untargeted, it is the label's less the best other one, whichever that is.
    Unlike a likelihood it does not flatten where the network is sure of itself.
    """

    def margin(logits: Tensor, labels: Tensor) -> Tensor:
        own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        label, others = logits[own], logits.masked_fill(own, -torch.inf).amax(1)
        if target_class is None:
            return label - others
        goal = logits[:, target_class]
        return torch.where(labels == target_class, others - label, label - goal)

    return margin
