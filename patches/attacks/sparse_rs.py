"""Sparse-RS: a patch by random search, from scores alone (Croce et al. 2022; patches, universal and for an image)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from patches.problem import Problem
from patches.surrogates.device import Device

MOVE_EVERY = 4  # of an image's patch whose place is free: one step in so many moves it
MOVE_SHARE = 0.75  # of the image's side, at first


def craft(
    problem: Problem,
    *,
    queries: int = 10_000,
    batch: int = 8,
    period: int = 200,
    square: float = 0.05,
    loss: str = "margin",
) -> Tensor | tuple[Tensor, NDArray[np.int32]]:
    """Search for a patch ``(3, p, p)`` of values 0 and 1, or one per image ``(n, 3, p, p)``, from scores alone.

    The patch starts as stripes. Each step paints a random square of it in one of the eight colours and keeps the change
    unless the loss over `batch` images rises. The squares shrink from the share `square` to one pixel. Every `period`
    steps bring other images at other places (Croce et al. keep one batch). A per-image patch keeps what lowers that
    image's loss; where its place is free it also moves, by ever smaller steps, and the places, int32 ``(n, 2)``, are
    returned too. An image that is won costs no further queries.

    Args:
        problem: What to attack; its surrogate is a device.
        queries: Images that the device may classify in all, over all patches.
        batch: Images per step of a universal patch.
        period: Steps before a universal patch moves on to other images.
        square: Share of the patch that a step repaints at first.
        loss: What the search lowers.
    """
    device = problem.surrogate
    if not isinstance(device, Device):
        raise UserError("attack 'sparse_rs' asks a target: give it surrogate = \"device:ARTIFACT:TARGET\"")
    least = len(problem.pixels) if problem.per_image else batch
    if queries < least:
        raise UserError(f"attack 'sparse_rs': expected at least {least} queries, one an image, got {queries}")
    search = _Search(problem, device, queries, square, loss)
    return _each(search) if problem.per_image else _universal(search, batch, period)


@dataclass
class _Search:
    """A problem, the device that is asked about it, and how far the budget is used."""

    problem: Problem
    device: Device
    queries: int
    square: float
    loss: str

    def __post_init__(self) -> None:
        self.random = self.problem.generator()
        self.mask = self.problem.mask.cpu().numpy()

    @property
    def left(self) -> int:
        return self.queries - self.device.queries

    def draw(self, below: int) -> int:
        return int(torch.randint(below, (1,), generator=self.random))

    def colours(self, *shape: int) -> Pixels:
        found: Pixels = (torch.randint(2, (*shape, 3), generator=self.random) * 255).to(torch.uint8).numpy()
        return found

    def stripes(self, n: int) -> Pixels:
        px = self.problem.px
        return np.ascontiguousarray(np.broadcast_to(self.colours(n, 1, px), (n, px, px, 3)))

    def recoloured(self, patch: Pixels) -> Pixels:
        """A copy with a square of one colour."""
        px, share = self.problem.px, self.square * self.left / self.queries
        side = max(1, round(share**0.5 * px))
        row, column, changed = self.draw(px - side + 1), self.draw(px - side + 1), patch.copy()
        changed[row : row + side, column : column + side] = self.colours()
        return changed

    def losses(
        self, stamps: Pixels, corners: NDArray[np.integer], images: NDArray[np.integer]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Each image's loss, and which are won."""
        scores = self.device.scores(stamps, self.mask, corners, images)
        if not np.isfinite(scores).all():
            raise UserError(f"query {self.device.queries} of the attack: expected finite scores, got {scores.tolist()}")
        labels, target_class = self.problem.labels[images], self.problem.target_class
        found, margin = (losses(scores, labels, target_class, kind) for kind in (self.loss, "margin"))
        return found, margin < 0


def _universal(search: _Search, batch: int, period: int) -> Tensor:
    patch, waiting, step = search.stripes(1)[0], torch.empty(0, dtype=torch.int64), 0
    images, corners, best = np.empty(0, np.int64), np.empty((0, 2), np.int64), np.inf
    while search.left >= batch:
        candidate = patch
        if step % period == 0:
            while len(waiting) < batch:
                order = torch.randperm(len(search.problem.pixels), generator=search.random)
                waiting = torch.cat([waiting, order])
            images, waiting = waiting[:batch].numpy(), waiting[batch:]
            corners = search.problem.places(batch, search.random).cpu().numpy()
            best = np.inf
        else:
            candidate = search.recoloured(patch)
        found = float(search.losses(candidate[None], corners, images)[0].mean())
        if found <= best:
            best, patch = found, candidate
        search.problem.log_step(torch.tensor(best))
        step += 1
    return _tensor(patch[None])[0]


def _each(search: _Search) -> Tensor | tuple[Tensor, NDArray[np.int32]]:
    problem, n = search.problem, len(search.problem.pixels)
    patches, free, step = search.stripes(n), problem.corners is None, 0
    corners = problem.places(n, search.random).cpu().numpy().astype(np.int32)
    best, todo = np.full(n, np.inf), np.arange(n)
    while len(todo) and search.left >= len(todo):
        stamps, places = patches[todo], corners[todo]
        if step and free and step % MOVE_EVERY == 0:
            places = _moved(search, places)
        elif step:
            stamps = np.stack([search.recoloured(patch) for patch in stamps])
        found, won = search.losses(stamps, places, todo)
        better = found <= best[todo]
        kept = todo[better]
        best[kept], patches[kept], corners[kept] = found[better], stamps[better], places[better]
        todo = todo[~(won & better)]
        problem.log_step(torch.tensor(best.mean()))
        step += 1
    return (_tensor(patches), corners) if free else _tensor(patches)


def _moved(search: _Search, places: NDArray[np.int32]) -> NDArray[np.int32]:
    """Other places: within ever fewer rows and columns, at least one."""
    height, width = search.problem.image_size
    room, most = np.array([height, width]) - search.problem.px, MOVE_SHARE * search.left / search.queries
    reach = [max(1, round(most * side)) for side in (height, width)]
    steps = [torch.randint(-r, r + 1, (len(places),), generator=search.random).numpy() for r in reach]
    moved: NDArray[np.int32] = (places + np.stack(steps, axis=1)).clip(0, room).astype(np.int32)
    return moved


def losses(
    scores: NDArray[np.float32], labels: NDArray[np.integer], target_class: int | None, kind: str
) -> NDArray[np.float64]:
    """What is to fall, an image: the margin, below 0 where an image is won, or the cross entropy; float64 ``(n,)``.

    The margin is what another class's score lacks to that of the label, or the target class's to the best other.
    """
    z, rows = scores.astype(np.float64), np.arange(len(scores))
    wanted = labels if target_class is None else np.full(len(scores), target_class)
    own, top = z[rows, wanted], z.max(axis=1)
    if kind == "margin":
        z[rows, wanted] = -np.inf
        rival = z.max(axis=1)
    else:
        rival = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    found: NDArray[np.float64] = own - rival if target_class is None else rival - own
    return found


def _tensor(patches: Pixels) -> Tensor:
    return torch.from_numpy(patches).permute(0, 3, 1, 2) / 255
