"""The problem an attack solves: a surrogate, images, a patch size and a seed; and the log of its steps."""

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
    """One step's loss, and its share of exactly zero gradients under the mask where there are gradients."""

    loss: float
    zero_gradient_share: float | None


@dataclass(frozen=True, eq=False)
class Problem:
    """A patch to craft against `surrogate` (pixels in [0, 1] to logits), over uint8 images ``(n, h, w, 3)``.

    ``target_class`` None is untargeted; otherwise `craft` has removed the images of that class. An attack draws
    everything random from `generator` and calls `log_step` once per step.

    With ``per_image`` each image gets its own patch, and `craft` passes the images batch by batch. An attack that uses
    `start`, `batches` and `places` supports both.
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
    corners: NDArray[np.int32] | None = None  # (1 or n, 2), fixed places; None: anywhere
    first: int = 0  # of a part: its offset among all images
    progress: Callable[[int, float], None] | None = None  # called with each step, from 1, and its loss
    log: list[LogEntry] = field(default_factory=list)

    @property
    def image_size(self) -> placement.Size:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @cached_property
    def mask(self) -> Tensor:
        """The pixels that the patch covers: bool ``(1, p, p)``."""
        return torch.from_numpy(placement.mask(self.px, self.shape))[None].to(self.device)

    def generator(self) -> torch.Generator:
        """Return a new random generator with the seed; on the CPU, so that every device draws the same."""
        return torch.Generator().manual_seed(self.seed + 1_000_003 * self.first)

    def start(self, random: torch.Generator) -> Tensor:
        """Return uniform noise to start from: ``(1, 3, p, p)`` in [0, 1], or ``(n, 3, p, p)`` per image."""
        n = len(self.pixels) if self.per_image else 1
        return torch.rand(n, 3, self.px, self.px, generator=random).to(self.device).requires_grad_()

    def parts(self, batch: int) -> Iterator[Problem]:
        """Yield the images `batch` at a time, in order, each part as a problem with its own log."""
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
        """Return some images as new float32 ``(n, 3, h, w)`` in [0, 1], channels last in memory, and their labels."""
        pixels, labels = self._tensors
        return pixels[index].permute(0, 3, 1, 2).to(self.device, torch.float32).div_(255), labels[index].to(self.device)

    def batches(self, steps: int, batch: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `steps` batches of images and labels; every image comes once before any comes again.

        With ``per_image`` every batch is all images, in order.
        """
        if steps < 1 or batch < 1:
            raise UserError(f"expected at least 1 step and 1 image a batch, got steps = {steps}, batch = {batch}")
        waiting = torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            if self.per_image:
                yield self.images(torch.arange(len(self.pixels)))
                continue
            while len(waiting) < batch:
                waiting = torch.cat([waiting, torch.randperm(len(self.pixels), generator=random)])
            yield self.images(waiting[:batch])
            waiting = waiting[batch:]

    def places(self, n: int, random: torch.Generator, side: int = 0) -> Tensor:
        """Return corners ``(n, 2)`` of stamps of a side, by default the patch's.

        Fixed places where the problem has them, with the stamp around the patch's middle; else uniform over the
        positions that keep the stamp inside.
        """
        side = side or self.px
        height, width = self.image_size
        if side > min(height, width):
            raise UserError(
                f"a patch of {self.px} pixels becomes {side} wide when rotated and scaled: expected at most "
                f"{min(height, width)}, the image's side"
            )
        if self.corners is not None:
            fixed = torch.from_numpy(self.corners.astype(np.int64)) - (side - self.px) // 2
            room = torch.tensor([height - side, width - side])
            return fixed.clamp(torch.zeros(2, dtype=torch.int64), room).expand(n, 2).to(self.device)
        rows = torch.randint(height - side + 1, (n,), generator=random)
        columns = torch.randint(width - side + 1, (n,), generator=random)
        return torch.stack([rows, columns], dim=1).to(self.device)

    def log_step(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        """Log a step; `gradient` is the patch's, ``(..., 3, p, p)``. An infinite or NaN value is a `UserError`.

        The share of zero gradients counts the channels of covered pixels. A search without gradients passes none.
        """
        entry = LogEntry(float(loss.detach()), None)
        finite = math.isfinite(entry.loss)
        if gradient is not None:
            last = gradient.movedim(-3, -1)
            covered = last[self.mask.expand(last.shape[:-1])]
            entry = LogEntry(entry.loss, float((covered == 0).float().mean()))
            finite = finite and bool(covered.isfinite().all())
        self.log.append(entry)
        if not finite:
            raise UserError(
                f"step {len(self.log)} of the attack: expected a finite loss and gradient, got a loss of {entry.loss}; "
                "check the network's weights, or lower the attack's learning rate"
            )
        if self.progress:
            self.progress(len(self.log), entry.loss)

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.ascontiguousarray(self.pixels)), torch.from_numpy(self.labels.astype(np.int64))


def merge_logs(logs: Sequence[list[LogEntry]]) -> list[LogEntry]:
    """Merge the logs of all parts: each entry is the mean over the parts."""
    if len(logs) == 1:
        return logs[0]
    return [LogEntry(*np.mean(at, axis=0).tolist()) for at in zip(*logs, strict=True)]


def loss_curve(log: Sequence[LogEntry]) -> list[float]:
    """Return the loss over the steps, averaged over at most `CURVE_POINTS` equal stretches."""
    losses = np.array([step.loss for step in log])
    return [float(part.mean()) for part in np.array_split(losses, min(len(losses), CURVE_POINTS) or 1) if part.size]
