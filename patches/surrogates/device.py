"""The device itself, asked: scores for stamps on its images, counted and limited; and no gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device.artifact import Pixels
from backends.device.errors import UserError

# Gives float32 (n, classes) for images, int32 (n,), of the stack that the device holds, with stamps uint8
# (1 or n, p, p, 3) and masks bool (1 or n, p, p) at corners int32 (n, 2).
Ask = Callable[[Pixels, NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32]], NDArray[np.float32]]


class Device(nn.Module):
    """Answers queries about the images of a problem, or about those of them at `positions`.

    A query is one image looked at; more than `limit` of them are refused. ``calls`` are how often it was asked for
    some at once. `about` says which target it is and what runs there.
    """

    def __init__(
        self,
        ask: Ask,
        positions: NDArray[np.integer] | None = None,
        limit: int | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.queries, self.calls = 0, 0
        self.limit, self.about = limit, dict(about or {})
        self._ask, self._positions = ask, positions

    def scores(
        self, stamps: Pixels, mask: NDArray[np.bool_], corners: NDArray[np.integer], images: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Scores ``(n, classes)``: logits, or the logarithms of probabilities where the file ends in a softmax."""
        if self.limit is not None and self.queries + len(images) > self.limit:
            raise UserError(
                f"{self.queries} queries used: {len(images)} more would exceed the limit of {self.limit}; raise queries"
            )
        self.queries, self.calls = self.queries + len(images), self.calls + 1
        known = images if self._positions is None else self._positions[images]
        return self._ask(stamps, mask, corners.astype(np.int32), known.astype(np.int32))

    def over(self, positions: NDArray[np.integer], limit: int | None = None) -> Device:
        """The same device, asked about some of its images."""
        known = positions if self._positions is None else self._positions[positions]
        return Device(self._ask, known, limit, self.about)

    def forward(self, x: Tensor) -> Tensor:
        """Refuses: pictures are not sent, and there is nothing to differentiate."""
        raise UserError(
            "a device gives scores and no gradients: this attack needs a surrogate that has them, "
            'float or "twin:ARTIFACT"; sparse_rs asks a device'
        )


def surrogate(source: object) -> nn.Module:
    """Refuses: a device is nothing that is built from a file; the harness holds a session open on a target."""
    raise UserError('surrogate "device": name an artifact and a target, "device:ARTIFACT:TARGET"')
