"""Victims: build a network, load or train its weights, and wrap it in its normalisation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from backends.device.json_types import read_as
from exporters.victim import Victim
from harness import config
from harness.data.datasets import Images
from harness.display import Progress
from harness.networks.architectures import build
from harness.networks.training import train
from harness.networks.weights import find_weights, load_weights, read_weights, write_tensors
from harness.store import write_json

FILE = "victim.json"


class Normalised(nn.Module):
    """A network with its normalisation in front: float32 ``(n, 3, h, w)`` RGB in [0, 1] to logits.

    One multiplication and one addition per channel, which every quantizer supports; ``scale`` is 1 / std, ``shift`` is
    -mean / std, both ``(1, 3, 1, 1)``.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        scale = 1 / np.asarray(std, np.float64)
        shift = -np.asarray(mean, np.float64) * scale
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).reshape(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)``."""
        logits: Tensor = self.network(x * self.scale + self.shift)
        return logits


def prepare(
    table: config.VictimTable,
    *,
    data_dir: Path | None,
    images: Images | None,
    classes: int,
    size: tuple[int, int],
    folder: Path,
    cache: Path,
    checkpoint: Path,
    progress: Progress | None = None,
    teacher: nn.Module | None = None,
) -> Victim:
    """Load or train a victim's weights and write them to ``folder``: ``weights.pt`` and ``victim.json``.

    ``images`` are those to train on (`datasets.training_images`), ``size`` is (height, width), ``cache`` the folder for
    downloads, ``checkpoint`` the file that an interrupted training resumes from, ``teacher`` the network in eval mode
    to distil from. Missing or unfitting weights, and a network with another input size or number of classes, are a
    `UserError`.
    """
    network = check(table, classes, size)
    if table.train:
        if images is None or table.channel_order != "rgb":
            raise UserError(f'victim {table.name!r}: training needs images and channel_order = "rgb"')
        if images.labels.max() >= classes:
            raise UserError(
                f"victim {table.name!r}: has {classes} classes, but the training images go up to {images.labels.max()}"
            )
        train(_normalised(network, table.mean, table.std), images, table.train, checkpoint, progress, teacher)
    else:
        file = find_weights(table, data_dir, cache, progress)
        load_weights(network, read_weights(file), file)
        if table.channel_order == "bgr":
            _take_rgb(table, network.eval(), size)
    state = network.state_dict()
    if bad := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"victim {table.name!r}: its weights hold NaN or infinity, first in {bad[0]}")
    weights = folder / "weights.pt"
    write_tensors(state, weights)
    victim = Victim(table.name, table.model, weights, weights_digest(state), classes, size, table.mean, table.std)
    write_json(folder / FILE, {"schema": 1} | asdict(victim) | {"weights": weights.name})
    return victim


def check(table: config.VictimTable, classes: int, size: tuple[int, int]) -> nn.Module:
    """Build a victim's network untrained; one with another input size or number of classes is a `UserError`."""
    network = build(table.model, classes, table.train.seed if table.train else 0)
    _check_forward(table, network, classes, size)
    return network


def read(folder: Path) -> Victim:
    """Read the victim that `prepare` wrote to a folder; anything else is a `DamagedFile`."""
    victim = read_as(Victim, folder / FILE, schema=1)
    return replace(victim, weights=folder / victim.weights.name)


def load(victim: Victim) -> nn.Module:
    """Load a victim's network in eval mode: float32 ``(n, 3, h, w)`` RGB in [0, 1] to logits ``(n, classes)``.

    It is `Normalised`, unless mean is 0 and std 1. Weights with another hash are a `UserError`.
    """
    state = read_weights(victim.weights)
    if weights_digest(state) != victim.sha256:
        raise UserError(f"{victim.weights}: not the weights of victim {victim.name!r} (their sha256 differs)")
    network = build(victim.model, victim.classes)
    load_weights(network, state, victim.weights)
    return _normalised(network, victim.mean, victim.std).eval()


def logits(network: nn.Module, pixels: Pixels, batch: int = 50) -> NDArray[np.float32]:
    """Return logits float32 ``(n, classes)`` for uint8 pixels ``(n, h, w, 3)`` RGB, in batches that fit a cache."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            x = torch.tensor(pixels[start : start + batch]).permute(0, 3, 1, 2).contiguous().float() / 255
            parts.append(network(x).numpy())
    return np.concatenate(parts)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of tensors, in hex."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _normalised(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    return Normalised(network, mean, std) if any(mean) or set(std) != {1.0} else network


def _check_forward(table: config.VictimTable, network: nn.Module, classes: int, size: tuple[int, int]) -> None:
    """Run one image through the network, while a mistake is still cheap."""
    takes = f"victim {table.name!r}: {table.model} does not take images of {size[0]}x{size[1]}"
    try:
        with torch.inference_mode():
            out = network.eval()(torch.zeros(1, 3, *size))
    except Exception as error:  # a network can fail in any way
        raise UserError(f"{takes} ({type(error).__name__}: {error})") from error
    if not isinstance(out, Tensor) or out.shape != (1, classes):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UserError(f"victim {table.name!r}: expected logits (1, {classes}) for one image, got {got}")


def _take_rgb(table: config.VictimTable, network: nn.Module, size: tuple[int, int]) -> None:
    """Turn a BGR network into an RGB one by reversing the input channels of its first convolution."""
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(x.flip(1))
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[1] == 3), None)
    if first is not None:
        first.weight.data = first.weight.data.flip(1).contiguous()
    with torch.inference_mode():
        if not torch.allclose(network(x), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            raise UserError(
                f'victim {table.name!r}: channel_order = "bgr" needs a network that begins with a convolution'
            )
