"""The small float network of `backends.conformance` as torch has it, for ExecuTorch and for vendors' toolchains."""

from pathlib import Path

import torch
from torch import Tensor, nn

from backends.conformance.networks import constants
from backends.device.artifact import QuantSpec
from exporters import esp_ppq, nncase, pte, rknn, tpu_mlir
from exporters.victim import Victim
from helpers.tiny import CLASSES, SIZE, pixels

VICTIM = Victim("tiny", "tiny", Path(), "", CLASSES, (SIZE, SIZE))


class Network(nn.Module):
    """Convolution, ReLU, global average, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, padding=1)
        self.dense = nn.Linear(5, CLASSES, bias=False)
        w, b, v = map(torch.from_numpy, constants().values())
        self.load_state_dict({"convolution.weight": w, "convolution.bias": b, "dense.weight": v.T})

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(torch.relu(self.convolution(x)).mean((2, 3)))


def pte_file(path: Path) -> Path:
    pte.write(Network().eval(), VICTIM, None, None, path)
    return path


def cvimodel_file(path: Path) -> Path:
    spec = QuantSpec(symmetric_activations=True, calibration_images=64)
    tpu_mlir.write(Network().eval(), VICTIM, spec, pixels(64), path)
    return path


def kmodel_file(path: Path) -> Path:
    spec = QuantSpec(activation_signed=False, calibration_images=64)
    nncase.write(Network().eval(), VICTIM, spec, pixels(64), path)
    return path


def rknn_file(path: Path) -> Path:
    rknn.write(Network().eval(), VICTIM, QuantSpec(calibration_images=64), pixels(64), path)
    return path


def espdl_file(path: Path) -> Path:
    spec = QuantSpec(symmetric_activations=True, calibration_images=64)
    esp_ppq.write(Network().eval(), VICTIM, spec, pixels(64), path)
    return path
