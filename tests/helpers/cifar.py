"""The published CIFAR-10 ResNets."""

from pathlib import Path

from torch import nn

from harness.networks.architectures import build
from harness.networks.victims import Normalised
from harness.networks.weights import load_weights, read_weights
from helpers import small_networks as small


def cifar_resnet(data_dir: Path, depth: int) -> nn.Module:
    network = build(f"resnet{depth}", 10)
    file = data_dir / "cifar10" / f"resnet{depth}.th"
    load_weights(network, read_weights(file), file)
    return Normalised(network, small.MEAN, small.STD).eval()
