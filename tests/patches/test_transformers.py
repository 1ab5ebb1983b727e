"""Small transformers and ConvNeXts, exported: they keep their meaning, and their twins compute every integer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers.small_networks import FORMATS, SPEC
from torch import nn

from exporters.files import describe
from harness.run.arithmetic import compare_in_batches
from harness.torchvision_import import import_torchvision
from patches.twins import twin

SIZE = 32
IMAGES = small.pixels(24, SIZE)
QUANT = replace(SPEC, allow_float=("LayerNormalization", "Gelu"))


def vit() -> nn.Module:
    """Two blocks, a class token, and heads between transpositions of the axis of the images."""
    models = import_torchvision().models.vision_transformer
    network = models.VisionTransformer(SIZE, 8, 2, 2, 16, 32, num_classes=10)
    nn.init.normal_(network.heads.head.weight, std=0.3)
    return network


def swin() -> nn.Module:
    """A block of plain and one of shifted windows, then half as many windows of twice the channels."""
    models = import_torchvision().models.swin_transformer
    return models.SwinTransformer([4, 4], 12, [2, 1], [2, 2], [4, 4], stochastic_depth_prob=0.0, num_classes=10)


def convnext() -> nn.Module:
    models = import_torchvision().models.convnext
    blocks = [models.CNBlockConfig(8, 16, 1), models.CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(blocks, layer_scale=1.0, num_classes=10)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "make", [pytest.param(vit, marks=pytest.mark.slow), pytest.param(swin, marks=pytest.mark.slow), convnext]
)
def test_their_twins_compute_every_integer(tmp_path: Path, make: Callable[[], nn.Module], format: str) -> None:
    torch.manual_seed(0)
    network = make().eval()
    logits = small.torch_logits(network, IMAGES)
    file = small.write(tmp_path, network, format, QUANT, victim=small.victim(size=SIZE), calibration_pixels=IMAGES)
    floats = {operator.name for operator in describe(file).in_float}
    assert floats == (set(QUANT.allow_float) if format == "onnx" else set())
    assert np.abs(small.file_logits(file, IMAGES) - logits).max() < 0.1 * np.ptp(logits)
    for kernels in ("xnnpack", "builtin", "reference") if format == "tflite" else (None,):
        made = twin(file, kernels)
        assert [one.equal for one in compare_in_batches(made, IMAGES[:8], (1, 8, 5))] == [1.0] * 3
    pixels = small.as_input(IMAGES[:2]).requires_grad_()
    (gradient,) = torch.autograd.grad(made(pixels)[:, 3].sum(), pixels)
    assert (gradient != 0).any(dim=(1, 2, 3)).all()
