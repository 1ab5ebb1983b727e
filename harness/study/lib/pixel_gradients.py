"""Gradients of a network by its input pixels, and how two of them agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device.artifact import Pixels
from harness.study.lib.structure import edge_iou, hog_cosine


class Alignment(NamedTuple):
    """Agreement of two gradients on each image, ``(n,)``: in direction, in structure, and the zeros of the second.

    The cosine is NaN where a gradient vanishes; a zero has the same sign as a zero only. For ``edge_iou`` and
    ``hog_cosine`` see `harness.study.lib.structure`.
    """

    cosine: NDArray[np.float64]
    sign_agreement: NDArray[np.float64]
    edge_iou: NDArray[np.float64]
    hog_cosine: NDArray[np.float64]
    zero_share: NDArray[np.float64]


def pixel_gradients(
    network: nn.Module,
    pixels: Pixels,
    labels: NDArray[np.int64],
    score: Callable[[Tensor, Tensor], Tensor],
    batch: int = 50,
) -> Tensor:
    """Return the gradient of ``score(logits, labels)`` by each image's pixels in [0, 1], float32 ``(n, 3, h, w)``."""
    parts = []
    for start in range(0, len(pixels), batch):
        x = torch.tensor(pixels[start : start + batch]).permute(0, 3, 1, 2).contiguous().float() / 255
        logits = network(x.requires_grad_())
        scores = score(logits, torch.from_numpy(labels[start : start + batch]))
        parts.append(torch.autograd.grad(scores.sum(), x)[0])
    return torch.cat(parts)


def alignment(a: Tensor, b: Tensor, where: NDArray[np.bool_]) -> Alignment:
    """Compare two gradients ``(n, 3, h, w)`` on the pixels ``(n, h, w)`` of each image."""
    inside = torch.from_numpy(where)[:, None]
    count = 3.0 * inside.sum(dim=(1, 2, 3))
    edges = edge_iou(a, b, inside[:, 0])
    orientations = hog_cosine(a, b, inside[:, 0])
    a = a.double() * inside
    b = b.double() * inside
    lengths = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    cosine = torch.where(lengths > 0, (a * b).sum(dim=(1, 2, 3)) / lengths, torch.nan)
    same = ((a.sign() == b.sign()) & inside).sum(dim=(1, 2, 3)) / count
    zero = ((b == 0) & inside).sum(dim=(1, 2, 3)) / count
    return Alignment(cosine.numpy(), same.numpy(), edges.numpy(), orientations.numpy(), zero.numpy())
