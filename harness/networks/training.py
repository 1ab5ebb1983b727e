"""Training from scratch, from a seed; killed after any epoch and started again, it ends with the same weights."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError
from harness import config
from harness.data.datasets import Images
from harness.display import Progress
from harness.networks.distillation import divergence, mixed

MOMENTUM = 0.9
WARM_UP = 0.15  # share of the steps in which the learning rate rises
SHIFT = 1 / 16  # of the image's side, the most that an image is moved


def training_images(pools: dict[str, Images], splits: dict[str, Images]) -> Images:
    """The images that a network may see: the whole train pool; of a data set with one pool, the craft split."""
    return pools["train"] if "train" in pools else splits["craft"]


def train(
    network: nn.Module,
    images: Images,
    table: config.TrainTable,
    checkpoint: Path,
    progress: Progress | None = None,
    teacher: nn.Module | None = None,
) -> nn.Module:
    """Trains in place and gives the network back in eval mode.

    On the labels; or, given a ``teacher`` in eval mode that takes the same images, on its answers to mixtures of them.

    SGD with Nesterov momentum, a learning rate that rises and then falls along a cosine, random shifts, mirror images
    where ``table.flips``. All that is random in an epoch comes from (seed, epoch), and the state after each epoch is
    kept in ``checkpoint``, so an interrupted training goes on to bit-identical weights (same machine, same threads).
    A checkpoint of other images, settings or first weights is not used. A loss that is not finite is a `UserError`.
    """
    x = torch.tensor(images.pixels).permute(0, 3, 1, 2).contiguous()
    y = torch.tensor(images.labels)
    optimizer = torch.optim.SGD(
        network.parameters(), table.learning_rate, MOMENTUM, weight_decay=table.weight_decay, nesterov=True
    )
    known = identity(images, table, network, *([teacher] if teacher else []))
    steps = max(1, len(y) // table.batch)  # a last batch of one would break batch normalisation
    network.train()
    for epoch in range(resume(checkpoint, known, network, optimizer), table.epochs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(table.seed, epoch))
            order = torch.randperm(len(y))
            for step in range(steps):
                batch = order[step * table.batch : (step + 1) * table.batch]
                done = epoch * steps + step
                rate = table.learning_rate * schedule(done, table.epochs * steps)
                seen, wanted = augmented(x[batch], table.flips), y[batch]
                if teacher:
                    seen = mixed(seen, table.mix)
                    with torch.no_grad():
                        wanted = teacher(seen)
                loss = _step(network, optimizer, rate, seen, wanted, table.temperature)
                if not math.isfinite(loss):
                    raise UserError(
                        f"training diverged in epoch {epoch + 1}: lower learning_rate = {table.learning_rate}"
                    )
                if progress:
                    progress(done + 1, table.epochs * steps, f"training, epoch {epoch + 1}: loss {loss:.3f}")
        save(checkpoint, known, epoch + 1, network, optimizer)
    return network.eval()


def _step(
    network: nn.Module, optimizer: torch.optim.SGD, rate: float, x: Tensor, wanted: Tensor, temperature: float
) -> float:
    """``wanted`` are labels ``(n,)``, or a teacher's logits."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    out = network(x)
    loss = functional.cross_entropy(out, wanted) if wanted.ndim == 1 else divergence(out, wanted, temperature)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: a straight rise, then half a cosine to nearly 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))


def augmented(x: Tensor, flips: bool) -> Tensor:
    """Float images in [0, 1], each moved by up to `SHIFT`, its border repeated, and mirrored or not."""
    n, _, height, width = x.shape
    most = max(1, round(SHIFT * min(height, width)))
    padded = functional.pad(x.float() / 255, (most,) * 4, mode="replicate")
    shifts = torch.randint(0, 2 * most + 1, (n, 2)).tolist()
    moved = torch.stack([im[:, i : i + height, j : j + width] for im, (i, j) in zip(padded, shifts, strict=True)])
    if not flips:
        return moved
    return torch.where((torch.rand(n) < 0.5)[:, None, None, None], moved.flip(3), moved)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of all that is random in an epoch."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}".encode()).digest()[:7])


def identity(images: Images, table: BaseModel, *networks: nn.Module) -> str:
    """Hash of all that decides a training: settings, images, first weights, those of a teacher."""
    digest = hashlib.sha256(table.model_dump_json().encode())
    digest.update(images.pixels.tobytes() + images.labels.tobytes())
    for network in networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def resume(checkpoint: Path, known: str, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Epochs done, with network and optimizer as they were then; 0 without a checkpoint of this very training."""
    try:
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        if state["identity"] != known:
            return 0
    except Exception:  # absent or damaged in any way: training afresh is always right
        return 0
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])


def save(checkpoint: Path, known: str, epochs: int, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Keeps the state after an epoch."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    beside = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}")
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({"identity": known, "epochs": epochs, **state}, beside)
    beside.replace(checkpoint)
