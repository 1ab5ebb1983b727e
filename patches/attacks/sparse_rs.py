"""Sparse-RS: a patch by random search, from scores alone (Croce et al. 2022, "Sparse-RS: a versatile framework ...")."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.schema import Pixels
from patches.problem import Problem
from patches.surrogates.device import Device

DEFAULT_QUERIES = 10_000


def craft(
    problem: Problem,
    *,
    queries: int = 10_000,
    batch: int = 32,
    period: int = 20,
    share: float = 0.4,
    power: float = 2.0,
    loss: str = "margin",
) -> Tensor:
    device = problem.surrogate
    assert isinstance(device, Device)
    random, px = problem.generator(), problem.px
    mask = problem.mask.cpu().numpy()
    patch = _colours(px, random)[None].repeat(px, 0)
    waiting = torch.empty(0, dtype=torch.int64)
    steps = 0
    while queries - device.queries >= batch:
        if steps % period == 0:
            while len(waiting) < batch:
                waiting = torch.cat([waiting, torch.randperm(len(problem.pixels), generator=random)])
            images, waiting = waiting[:batch].numpy(), waiting[batch:]
            corners = problem.places(batch, random).cpu().numpy()
            best = np.inf

        def value(of):
            scores = device.scores(of[None], mask, corners, images)
            return float(losses(scores, problem.labels[images], problem.target_class, loss).mean())

        candidate = patch
        if best < np.inf:
            side = max(1, round((share * (1 - device.queries / queries) ** power) ** 0.5 * px))
            row, column = (int(v) for v in torch.randint(px - side + 1, (2,), generator=random))
            candidate = patch.copy()
            candidate[row : row + side, column : column + side] = _colours(1, random)
        found = value(candidate)
        if found <= best:
            best, patch = found, candidate
        steps += 1
        problem.step(torch.tensor(best))
    return torch.from_numpy(patch).permute(2, 0, 1) / 255


def _colours(n: int, random: torch.Generator) -> Pixels:
    return (torch.randint(2, (n, 3), generator=random) * 255).to(torch.uint8).numpy()


def losses(
    scores: NDArray[np.float32], labels: NDArray[np.integer], target_class: int | None, kind: str
) -> NDArray[np.float64]:
    z, rows = scores.astype(np.float64), np.arange(len(scores))
    wanted = labels if target_class is None else np.full(len(scores), target_class)
    own = z[rows, wanted]
    if kind == "margin":
        z[rows, wanted] = -np.inf
        rival = z.max(1)
    else:
        top = z.max(1)
        rival = top + np.log(np.exp(z - top[:, None]).sum(1))
    return (own - rival) * (1 if target_class is None else -1)
