"""The networks that others' quantizers are given, trained on scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

EPOCHS = 3
BATCH = 64


class Residual(nn.Module):
    """A residual block, one of its convolutions depthwise, between two kinds of pooling; parts joined at the end."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6())
        self.point = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16))
        self.relu = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images ``(n, 3, h, w)`` in [0, 1]."""
        stem = self.pool(self.stem(x))
        deep = self.deep(stem)
        both = self.relu(self.point(deep) + stem)
        return self.classes(self.mean(torch.cat([both, deep], 1)).flatten(1))


def plain(classes: int = 10) -> nn.Module:
    """Build one path of convolutions, one of them depthwise, and pooling."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(),
        nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, classes),
    )  # fmt: skip


def trained(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> nn.Module:
    """Train a network for a few epochs on uint8 ``(n, h, w, 3)``."""
    x, y = as_input(images), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[part]), y[part]).backward()
            optimizer.step()
    return network.eval()


def as_input(images: np.ndarray) -> Tensor:
    """Return uint8 images as the network takes them."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
