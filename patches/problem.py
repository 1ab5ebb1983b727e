"""What an attack is given: a surrogate, images, a size and a seed; and the log that it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from patches import placement

CURVE_POINTS = 200


class LogEntry(NamedTuple):
    """What one step measured of itself: its loss, and the share of exactly zero gradients under the mask, if any."""

    loss: float
    zero_gradient_share: float | None


@dataclass(frozen=True, eq=False)
class Problem:
    """A patch to be made: against `surrogate` (pixels in [0, 1] to logits), over uint8 images ``(n, h, w, 3)``.

    ``target_class`` None is untargeted; `craft` leaves images of the target class out before an attack sees
    them. An attack draws all that is random from `generator`, and calls `log_step` once a step.

    With ``per_image`` each image gets a patch of its own, and `craft` hands the images over batch by batch: an
    attack that takes its start from `start`, its images from `batches` and its places from `places` does both.
    """

    surrogate: nn.Module
    pixels: Pixels
    labels: NDArray[np.integer]
    target_class: int | None
    px: int
    shape: placement.Shape = "square"
    seed: int = 0
    device: str = "cpu"
    per_image: bool = False
    corners: NDArray[np.int32] | None = None  # (1 or n, 2), where the places are known; None: anywhere
    first: int = 0  # of a part: how many images came before
    progress: Callable[[int, float], None] | None = None  # told of each step, from 1, and its loss
    log: list[LogEntry] = field(default_factory=list)

    @property
    def image_size(self) -> placement.Size:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @cached_property
    def mask(self) -> Tensor:
        """Which pixels the patch covers: bool ``(1, p, p)``."""
        return torch.from_numpy(placement.mask(self.px, self.shape))[None].to(self.device)

    def generator(self) -> torch.Generator:
        """A fresh source of random numbers, from the seed; on the CPU, so that every device draws the same."""
        return torch.Generator().manual_seed(self.seed + 1_000_003 * self.first)

    def start(self, random: torch.Generator) -> Tensor:
        """Uniform noise to start from: ``(1, 3, p, p)`` in [0, 1], or ``(n, 3, p, p)`` of a patch for each image."""
        n = len(self.pixels) if self.per_image else 1
        return torch.rand(n, 3, self.px, self.px, generator=random).to(self.device).requires_grad_()

    def parts(self, batch: int) -> Iterator[Problem]:
        """The images `batch` at a time, in their order, each part a problem with a log of its own."""
        for first in range(0, len(self.pixels), batch):
            part = slice(first, first + batch)
            own = self.corners if self.corners is None or len(self.corners) == 1 else self.corners[part]
            yield replace(
                self,
                pixels=self.pixels[part],
                labels=self.labels[part],
                corners=own,
                first=self.first + first,
                log=[],
            )

    def images(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Some images as fresh float32 ``(n, 3, h, w)`` in [0, 1], channels last in memory, and their labels."""
        pixels, labels = self._tensors
        return pixels[index].permute(0, 3, 1, 2).to(self.device, torch.float32).div_(255), labels[index].to(self.device)

    def batches(self, steps: int, batch: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """`steps` batches of images and labels; each image comes once before any comes again.

        With a patch for each image every batch is all of them, in their order.
        """
        if steps < 1 or batch < 1:
            raise UserError(f"expected at least 1 step and 1 image a batch, got steps = {steps}, batch = {batch}")
        waiting, everyone = torch.empty(0, dtype=torch.int64), torch.arange(len(self.pixels))
        for _ in range(steps):
            if self.per_image:
                yield self.images(everyone)
                continue
            while len(waiting) < batch:
                waiting = torch.cat([waiting, torch.randperm(len(self.pixels), generator=random)])
            index, waiting = waiting[:batch], waiting[batch:]
            yield self.images(index)

    def places(self, n: int, random: torch.Generator, side: int = 0) -> Tensor:
        """Corners ``(n, 2)`` of stamps of a side (that of the patch unless given).

        Where the places are known, those, the stamp around the patch's middle; else uniform over the positions that
        keep the stamp inside.
        """
        side = side or self.px
        height, width = self.image_size
        if side > min(height, width):
            raise UserError(
                f"a patch of {self.px} pixels turned and scaled so far is {side} wide: expected at most "
                f"{min(height, width)}, the image's side"
            )
        if self.corners is not None:
            known = torch.from_numpy(self.corners.astype(np.int64)) - (side - self.px) // 2
            room = torch.tensor([height - side, width - side])
            return known.clamp(torch.zeros(2, dtype=torch.int64), room).expand(n, 2).to(self.device)
        rows = torch.randint(height - side + 1, (n,), generator=random)
        return torch.stack([rows, torch.randint(width - side + 1, (n,), generator=random)], dim=1).to(self.device)

    def log_step(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        """Logs a step; `gradient` is the patch's, ``(..., 3, p, p)``. A loss or gradient that is no number is an error.

        The share of zero gradients counts the covered pixels' channels. A search without gradients gives none.
        """
        share, finite = None, True
        if gradient is not None:
            covered = gradient.movedim(-3, -1)[self.mask.expand(gradient.movedim(-3, -1).shape[:-1])]
            share, finite = float((covered == 0).float().mean()), bool(covered.isfinite().all())
        self.log.append(LogEntry(float(loss.detach()), share))
        if not math.isfinite(self.log[-1].loss) or not finite:
            raise UserError(
                f"step {len(self.log)} of the attack: expected a finite loss and gradient, got a loss of "
                f"{self.log[-1].loss}; look at the network's weights, or lower the attack's learning rate"
            )
        if self.progress:
            self.progress(len(self.log), self.log[-1].loss)

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.ascontiguousarray(self.pixels)), torch.from_numpy(self.labels.astype(np.int64))


def merge_logs(logs: Sequence[list[LogEntry]]) -> list[LogEntry]:
    """The log of all parts as one: at each step the mean over the parts."""
    if len(logs) == 1:
        return logs[0]
    return [LogEntry(*np.mean(at, axis=0).tolist()) for at in zip(*logs, strict=True)]


def loss_curve(log: Sequence[LogEntry]) -> list[float]:
    """The loss over the steps, as means over at most 200 equal stretches."""
    losses = np.array([step.loss for step in log])
    return [float(part.mean()) for part in np.array_split(losses, min(len(losses), CURVE_POINTS) or 1) if part.size]
