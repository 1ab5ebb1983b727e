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

MOVE_EVERY = 4  # one step in so many moves a per-image patch whose place is free
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
        raise UserError("attack 'sparse_rs' queries a target: give it surrogate = \"device:ARTIFACT:TARGET\"")
    fewest = len(problem.pixels) if problem.per_image else batch
    if queries < fewest:
        raise UserError(f"attack 'sparse_rs': expected at least {fewest} queries, one per image, got {queries}")
    search = _Search(problem, device, queries, square, loss)
    return _per_image(search) if problem.per_image else _universal(search, batch, period)


@dataclass
class _Search:
    """A problem, the device that is queried, and the budget left."""

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
        colours: Pixels = (torch.randint(2, (*shape, 3), generator=self.random) * 255).to(torch.uint8).numpy()
        return colours

    def stripes(self, n: int) -> Pixels:
        px = self.problem.px
        return np.ascontiguousarray(np.broadcast_to(self.colours(n, 1, px), (n, px, px, 3)))

    def recoloured(self, patch: Pixels) -> Pixels:
        """Return a copy with a random square in one colour."""
        px = self.problem.px
        share = self.square * self.left / self.queries
        side = max(1, round(share**0.5 * px))
        row = self.draw(px - side + 1)
        column = self.draw(px - side + 1)
        changed = patch.copy()
        changed[row : row + side, column : column + side] = self.colours()
        return changed

    def losses(
        self, stamps: Pixels, corners: NDArray[np.integer], images: NDArray[np.integer]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return each image's loss, and which images are won."""
        scores = self.device.scores(stamps, self.mask, corners, images)
        if not np.isfinite(scores).all():
            raise UserError(f"query {self.device.queries} of the attack: expected finite scores, got {scores.tolist()}")
        labels = self.problem.labels[images]
        target_class = self.problem.target_class
        won = losses(scores, labels, target_class, "margin") < 0
        return losses(scores, labels, target_class, self.loss), won


def _universal(search: _Search, batch: int, period: int) -> Tensor:
    patch = search.stripes(1)[0]
    waiting = torch.empty(0, dtype=torch.int64)
    images = np.empty(0, np.int64)
    corners = np.empty((0, 2), np.int64)
    best = np.inf
    step = 0
    while search.left >= batch:
        candidate = patch
        if step % period == 0:
            while len(waiting) < batch:
                order = torch.randperm(len(search.problem.pixels), generator=search.random)
                waiting = torch.cat([waiting, order])
            images = waiting[:batch].numpy()
            waiting = waiting[batch:]
            corners = search.problem.places(batch, search.random).cpu().numpy()
            best = np.inf
        else:
            candidate = search.recoloured(patch)
        loss = float(search.losses(candidate[None], corners, images)[0].mean())
        if loss <= best:
            best = loss
            patch = candidate
        search.problem.log_step(torch.tensor(best))
        step += 1
    return _tensor(patch[None])[0]


def _per_image(search: _Search) -> Tensor | tuple[Tensor, NDArray[np.int32]]:
    problem = search.problem
    n = len(problem.pixels)
    patches = search.stripes(n)
    free = problem.corners is None
    corners = problem.places(n, search.random).cpu().numpy().astype(np.int32)
    best = np.full(n, np.inf)
    todo = np.arange(n)
    step = 0
    while len(todo) and search.left >= len(todo):
        stamps, places = patches[todo], corners[todo]
        if step and free and step % MOVE_EVERY == 0:
            places = _moved(search, places)
        elif step:
            stamps = np.stack([search.recoloured(patch) for patch in stamps])
        loss, won = search.losses(stamps, places, todo)
        better = loss <= best[todo]
        kept = todo[better]
        best[kept] = loss[better]
        patches[kept] = stamps[better]
        corners[kept] = places[better]
        todo = todo[~(won & better)]
        problem.log_step(torch.tensor(best.mean()))
        step += 1
    return (_tensor(patches), corners) if free else _tensor(patches)


def _moved(search: _Search, places: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return other places, within ever fewer rows and columns, but at least one."""
    size = search.problem.image_size
    room = np.array(size) - search.problem.px
    share = MOVE_SHARE * search.left / search.queries
    reach = [max(1, round(share * side)) for side in size]
    steps = [torch.randint(-r, r + 1, (len(places),), generator=search.random).numpy() for r in reach]
    moved: NDArray[np.int32] = (places + np.stack(steps, axis=1)).clip(0, room).astype(np.int32)
    return moved


def losses(
    scores: NDArray[np.float32], labels: NDArray[np.integer], target_class: int | None, kind: str
) -> NDArray[np.float64]:
    """Return each image's margin, below 0 where the image is won, or cross entropy: float64 ``(n,)``.

    The margin is the label's score minus the best other one; targeted, the best other score minus the target class's.
    """
    z = scores.astype(np.float64)
    rows = np.arange(len(scores))
    wanted = labels if target_class is None else np.full(len(scores), target_class)
    own = z[rows, wanted]
    top = z.max(axis=1)
    if kind == "margin":
        z[rows, wanted] = -np.inf
        rival = z.max(axis=1)
    else:
        rival = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    loss: NDArray[np.float64] = own - rival if target_class is None else rival - own
    return loss


def _tensor(patches: Pixels) -> Tensor:
    return torch.from_numpy(patches).permute(0, 3, 1, 2) / 255
