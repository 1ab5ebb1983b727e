"""Several surrogates as one: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backends.device.errors import UserError


class Ensemble(nn.Module):
    """The mean of several networks' logits, ``(n, classes)``.

    Under cross-entropy that is the mean of their log-probabilities, normalised: the "ensemble in logits" of Dong et al.
    2018 ("Boosting Adversarial Attacks with Momentum", section 3.4, eq. 7), which transfers better than the mean of
    probabilities (Liu et al. 2017) or of losses.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits; members with other classes than the first are a `UserError`."""
        logits = [member(pixels) for member in self.members]
        if len(shapes := {tuple(out.shape) for out in logits}) > 1:
            raise UserError(f"an ensemble's members need the same classes, got logits {sorted(shapes)}")
        return torch.stack(logits).mean(dim=0)


def surrogate(members: Sequence[nn.Module]) -> nn.Module:
    """The ensemble of surrogates that are built already."""
    return Ensemble(members)
