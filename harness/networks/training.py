"""Train a network from a seed; a training that is killed and started again ends with the same weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from harness import config
from harness.data.datasets import Images
from harness.display import Progress
from harness.networks.checkpoints import read_checkpoint
from harness.networks.distillation import divergence, mixed
from harness.networks.weights import write_tensors
from patches.training_defences import Step, loss_with

KEYS = {"fingerprint", "epochs", "network", "optimizer", "scheduler"}  # of a checkpoint
MOMENTUM = 0.9
WARM_UP = 0.15  # share of the steps in which the learning rate rises
SHIFT = 1 / 16  # of the image's side, the most that an image is moved


def train(
    network: nn.Module,
    images: Images,
    table: config.TrainTable,
    checkpoint: Path,
    progress: Progress | None = None,
    teacher: nn.Module | None = None,
) -> nn.Module:
    """Train a network in place and return it in eval mode.

    It learns the labels, or the answers of a ``teacher`` in eval mode to mixtures of the images. SGD with Nesterov
    momentum, random shifts, and mirror images with ``table.flips``; a defence may change what a step learns. See
    `run_epochs` for the rest.
    """
    x = channels_first(images)
    y = torch.tensor(images.labels)
    optimizer = torch.optim.SGD(
        network.parameters(), table.learning_rate, MOMENTUM, weight_decay=table.weight_decay, nesterov=True
    )
    learned = loss_with(table.defence)

    answers = partial(divergence, temperature=table.temperature)

    def loss(batch: Tensor, number: int, of: int) -> Tensor:
        seen = augmented(x[batch], table.flips)
        if teacher is None:
            return learned(Step(network, seen, y[batch], functional.cross_entropy, number, of))
        seen = mixed(seen, table.mix)
        with torch.no_grad():
            wanted = teacher(seen)
        return learned(Step(network, seen, wanted, answers, number, of))

    taught_by = [teacher] if teacher else []
    fingerprint = training_fingerprint(images, table, network, *taught_by)
    run_epochs(network, optimizer, loss, len(y), table, checkpoint, fingerprint, progress, "training")
    return network.eval()


def run_epochs(
    network: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[Tensor, int, int], Tensor],
    n: int,
    table: config.TrainTable | config.QatTable,
    checkpoint: Path,
    fingerprint: str,
    progress: Progress | None,
    name: str,
) -> None:
    """Minimise ``loss(positions of a batch, number of the step, steps in all)`` over ``n`` images.

    The learning rate rises, then falls along a cosine.

    Everything random in an epoch comes from (seed, epoch), and the state after each epoch goes into ``checkpoint``, so
    an interrupted training ends with bit-identical weights (same machine, same threads). A checkpoint with another
    ``fingerprint`` is ignored. An infinite or NaN loss is a `UserError`.
    """
    steps = max(1, n // table.batch)  # drops the rest: a last batch of one would break batch normalisation
    total = table.epochs * steps
    scheduler = LambdaLR(optimizer, lambda step: schedule(step, total))
    first = _resume(checkpoint, fingerprint, network, optimizer, scheduler)
    for epoch in range(first, table.epochs):
        network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_epoch_seed(table.seed, epoch))
            order = torch.randperm(n)
            for step in range(steps):
                optimizer.zero_grad()
                value = loss(order[step * table.batch : (step + 1) * table.batch], epoch * steps + step, total)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
                if not math.isfinite(value.item()):
                    raise UserError(
                        f"{name} diverged in epoch {epoch + 1}: lower learning_rate = {table.learning_rate}"
                    )
                if progress:
                    progress(epoch * steps + step + 1, total, f"{name}, epoch {epoch + 1}: loss {value.item():.3f}")
        _save(checkpoint, fingerprint, epoch + 1, network, optimizer, scheduler)


def schedule(step: int, steps: int) -> float:
    """Return the share of the highest learning rate: a linear rise, then half a cosine to nearly 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))


def channels_first(images: Images) -> Tensor:
    """Return the pixels as uint8 ``(n, 3, h, w)``."""
    return torch.tensor(images.pixels).permute(0, 3, 1, 2).contiguous()


def augmented(x: Tensor, flips: bool) -> Tensor:
    """Return float images in [0, 1], each moved by up to `SHIFT` with its border repeated, and maybe mirrored."""
    n, _, height, width = x.shape
    most = max(1, round(SHIFT * min(height, width)))
    padded = functional.pad(x.float() / 255, (most,) * 4, mode="replicate")
    shifts = torch.randint(0, 2 * most + 1, (n, 2)).tolist()
    moved = torch.stack([im[:, i : i + height, j : j + width] for im, (i, j) in zip(padded, shifts, strict=True)])
    if not flips:
        return moved
    return torch.where((torch.rand(n) < 0.5)[:, None, None, None], moved.flip(3), moved)


def training_fingerprint(images: Images, table: BaseModel, *networks: nn.Module) -> str:
    """Return a hash of everything that decides a training: settings, images, first weights, a teacher's weights."""
    digest = hashlib.sha256(table.model_dump_json().encode())
    digest.update(images.pixels.tobytes() + images.labels.tobytes())
    for network in networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _epoch_seed(seed: int, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}".encode()).digest()[:7])


def _resume(checkpoint: Path, fingerprint: str, network: nn.Module, optimizer: Optimizer, scheduler: LambdaLR) -> int:
    """Restore the state of this very training and return the epochs done; 0 without a checkpoint of it."""
    try:
        state = read_checkpoint(checkpoint)
    except DamagedFile:  # or absent: training afresh is always right
        return 0
    if state.keys() != KEYS or state["fingerprint"] != fingerprint:
        return 0
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(state["epochs"])


def _save(
    checkpoint: Path, fingerprint: str, epochs: int, network: nn.Module, optimizer: Optimizer, scheduler: LambdaLR
) -> None:
    state = {
        "fingerprint": fingerprint,
        "epochs": epochs,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    write_tensors(state, checkpoint)
