"""Quantization-aware training: a network learns weights and step sizes anew, taught by itself in float."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from backends.device.artifact import Pixels, QuantSpec
from backends.device.reading import DamagedFile
from harness import config
from harness.data.datasets import Images
from harness.display import Progress
from harness.networks.checkpoints import read_checkpoint
from harness.networks.distillation import divergence, mixed
from harness.networks.training import augmented, channels_first, run_epochs, training_fingerprint
from harness.networks.victims import weights_digest
from harness.networks.weights import write_tensors
from patches.fake_quant.learned import finish, learnable
from patches.fake_quant.network import Grid, Trained, folded
from patches.training_defences import Step, loss_with


def train(
    network: nn.Module,
    quant: QuantSpec,
    images: Images,
    calibration: Pixels,
    table: config.QatTable,
    checkpoint: Path,
    progress: Progress | None = None,
) -> Trained:
    """Train a copy of a float network, in eval mode, at the bits of ``quant``.

    Step sizes are learned with the weights (Esser et al. 2020). The loss is the Kullback-Leibler divergence from the
    float network's answers at ``table.temperature`` (Hinton et al. 2015) on shifted, mirrored images, each with up to
    ``table.mix`` of another in it (Zhang et al. 2018, "mixup"); no label is used. With a defence, the answers are still
    those to images without patches and masks. Adam, without weight decay. See `training.run_epochs` for the rest.
    """
    x = channels_first(images)
    teacher = folded(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    student: GraphModule = learnable(network, quant, calibration).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(student.parameters(), table.learning_rate)

    learned = loss_with(table.defence)

    answers = partial(divergence, temperature=table.temperature)

    def loss(batch: Tensor, number: int, of: int) -> Tensor:
        seen = mixed(augmented(x[batch], table.flips), table.mix).to(memory_format=torch.channels_last)
        with torch.no_grad():
            wanted = teacher(seen)
        return learned(Step(student, seen, wanted, answers, number, of))

    fingerprint = training_fingerprint(images, table, student)
    name = f"training at {quant.precision}"
    run_epochs(student, optimizer, loss, len(x), table, checkpoint, fingerprint, progress, name)
    return finish(student)


def write(trained: Trained, folder: Path) -> None:
    """Write what was trained to ``trained.pt``: tensors alone."""
    grids = {name: torch.tensor(grid, dtype=torch.float64) for name, grid in trained.activations.items()}
    write_tensors({"state": trained.state, "weights": trained.weights, "activations": grids}, folder / "trained.pt")


def read(folder: Path) -> Trained:
    """Read what `write` wrote; anything else is a `DamagedFile`."""
    file = folder / "trained.pt"
    kept = read_checkpoint(file)
    try:
        grids = {name: Grid(float(g[0]), int(g[1]), int(g[2])) for name, g in kept["activations"].items()}
        return Trained(kept["state"], kept["weights"], grids)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DamagedFile(f"{file}: not what a quantization-aware training wrote ({error!r})") from error


def digest(trained: Trained) -> str:
    """Return the sha256 of all that was trained, in hex."""
    grids = {f"{name}.grid": torch.tensor(grid, dtype=torch.float64) for name, grid in trained.activations.items()}
    steps = {f"{name}.step": step for name, step in trained.weights.items()}
    return hashlib.sha256(weights_digest({**trained.state, **steps, **grids}).encode()).hexdigest()
