"""Quantization-aware training: a network learns its weights and steps anew, taught by what it was in float."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch
from torch import nn
from torch.fx import GraphModule

from backends.device.artifact import Pixels, QuantSpec
from backends.device.errors import UserError
from harness import config
from harness.data.datasets import Images
from harness.display import Progress
from harness.networks.distillation import divergence, mixed
from harness.networks.training import augmented, epoch_seed, identity, resume, save, schedule
from harness.networks.victims import weights_digest
from patches.fake_quant.learned import finish, learnable
from patches.fake_quant.network import Grid, Trained, folded


def train(
    network: nn.Module,
    quant: QuantSpec,
    images: Images,
    calibration: Pixels,
    table: config.QatTable,
    checkpoint: Path,
    progress: Progress | None = None,
) -> Trained:
    """Trains a copy of a network, in eval mode and float, at the bits of ``quant``.

    Steps are learned with the weights (Esser et al. 2020); the loss is the Kullback-Leibler divergence from the float
    network's answers at ``table.temperature`` (Hinton et al. 2015), on shifted, mirrored images, each with up to
    ``table.mix`` of another in it (Zhang et al. 2018, "mixup"): no label is used. Adam, a learning rate that rises and
    falls along a cosine, no decay. Killed after any epoch and started again, it ends with the same weights. A loss that
    is not finite is a `UserError`.
    """
    x = torch.tensor(images.pixels).permute(0, 3, 1, 2).contiguous()
    teacher = folded(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    student: GraphModule = learnable(network, quant, calibration).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(student.parameters(), table.learning_rate)
    known = identity(images, table, student)
    steps = max(1, len(x) // table.batch)
    for epoch in range(resume(checkpoint, known, student, optimizer), table.epochs):
        student.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(table.seed, epoch))
            order = torch.randperm(len(x))
            for step in range(steps):
                batch = augmented(x[order[step * table.batch : (step + 1) * table.batch]], table.flips)
                batch = mixed(batch, table.mix)
                done = epoch * steps + step
                rate = table.learning_rate * schedule(done, table.epochs * steps)
                loss = _step(student, teacher, optimizer, rate, batch, table.temperature)
                if not math.isfinite(loss):
                    raise UserError(f"quantization-aware training diverged in epoch {epoch + 1}: lower learning_rate")
                if progress:
                    said = f"{quant.precision}, epoch {epoch + 1}: loss {loss:.3f}"
                    progress(done + 1, table.epochs * steps, said)
        save(checkpoint, known, epoch + 1, student, optimizer)
    return finish(student)


def write(trained: Trained, folder: Path) -> None:
    """Keeps what was trained as ``trained.pt``: tensors alone."""
    grids = {name: torch.tensor(grid, dtype=torch.float64) for name, grid in trained.activations.items()}
    torch.save({"state": trained.state, "weights": trained.weights, "activations": grids}, folder / "trained.pt")


def read(folder: Path) -> Trained:
    """What `write` kept."""
    kept = torch.load(folder / "trained.pt", weights_only=True)
    grids = {name: Grid(float(g[0]), int(g[1]), int(g[2])) for name, g in kept["activations"].items()}
    return Trained(kept["state"], kept["weights"], grids)


def digest(trained: Trained) -> str:
    """Hex sha256 of all that was trained."""
    grids = {f"{name}.grid": torch.tensor(grid, dtype=torch.float64) for name, grid in trained.activations.items()}
    steps = {f"{name}.step": step for name, step in trained.weights.items()}
    return hashlib.sha256(weights_digest({**trained.state, **steps, **grids}).encode()).hexdigest()


def _step(
    student: nn.Module,
    teacher: nn.Module,
    optimizer: torch.optim.Adam,
    rate: float,
    images: torch.Tensor,
    temperature: float,
) -> float:
    images = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = teacher(images)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss = divergence(student(images), wanted, temperature)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
