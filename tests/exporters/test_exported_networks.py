"""Operators and whole networks, exported: they keep their meaning and accuracy, or the error says why not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers.cifar import cifar_resnet
from helpers.small_networks import CALIBRATIONS, FORMATS, PIXELS, SPEC, write
from torch import nn
from torch.nn import functional

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.files import describe
from harness.networks.victims import Normalised
from harness.run.arithmetic import compare_with_runtime
from harness.torchvision_import import import_torchvision

FUNCTIONS = {
    "relu after pooling": lambda x: functional.relu(functional.max_pool2d(x, 2)),
    "relu used beside its input": lambda x: functional.relu(x) + x,
    "batch normalisation alone": nn.BatchNorm2d(8).eval(),
    "subtraction and division": lambda x: (x - 0.1) / 0.3,
    "relu6": functional.relu6,
    "hard swish": functional.hardswish,
    "swish": functional.silu,
    "leaky": nn.LeakyReLU(0.3),
    "parts joined twice": lambda x: torch.cat([a := functional.relu(x), torch.cat([a, x], 1)], 1)[:, 4:12],
    "padding": lambda x: functional.pad(functional.relu(x), (1, 1, 1, 1))[:, :, ::2],
    "tiny constant": lambda x: functional.relu(x) + 1e-6,
    "average": lambda x: functional.avg_pool2d(x, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_keep_their_meaning(tmp_path, name, format, symmetric):
    network = small.Around(FUNCTIONS[name]).eval()
    quant = replace(SPEC, calibration_images=len(PIXELS), symmetric_activations=symmetric)
    if (name, format, symmetric) == ("swish", "tflite", True):
        with pytest.raises(UserError, match="is not what its QuantSpec implies"):
            write(tmp_path, network, format, quant)
        return
    logits = small.torch_logits(network, PIXELS)
    path = write(tmp_path, network, format, quant)
    error = np.abs(small.file_logits(path, PIXELS) - logits).max()
    assert error < (0.08 if symmetric else 0.04) * np.ptp(logits)


class Scaled(nn.Module):
    """A block as in ConvNeXt: dense layers on feature maps, whose answers are scaled channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(0.5 + torch.rand(8, 1, 1))
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x)
        y = self.down(self.up(x.permute(0, 2, 3, 1)).relu()).permute(0, 3, 1, 2)
        return self.head((x + self.scale * y).mean((2, 3)))


def test_the_bias_of_a_scaled_dense_layer_becomes_a_vector(tmp_path):
    network = Scaled().eval()
    path = write(tmp_path, network, "tflite")
    logits = small.torch_logits(network, PIXELS)
    assert np.abs(small.file_logits(path, PIXELS) - logits).max() < 0.04 * np.ptp(logits)
    dense = [o for o in describe(path).operators if o.name == "FULLY_CONNECTED"]
    assert [o.inputs[2].shape for o in dense] == [(16,), (8,), (10,)]
    for kernels in ("xnnpack", "builtin", "reference"):
        assert compare_with_runtime(path, kernels, None, PIXELS)[1].equal == 1


@pytest.mark.slow
@pytest.mark.parametrize("quant", [None, SPEC, replace(SPEC, symmetric_activations=True)])
@pytest.mark.parametrize("name", ["relu6", "relu6 after pooling"])
def test_a_clip_keeps_its_ceiling(tmp_path, name, quant):
    functions = {
        "relu6": functional.relu6,
        "relu6 after pooling": lambda x: functional.relu6(functional.max_pool2d(x, 2)),
    }
    network = small.Around(functions[name]).eval()
    with torch.no_grad():
        network.convolution.weight *= 30  # far beyond 6
    logits = small.torch_logits(network, PIXELS)
    error = np.abs(small.file_logits(write(tmp_path, network, "onnx", quant), PIXELS) - logits).max()
    assert error < 0.08 * np.ptp(logits)


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_channel_that_is_all_bias_keeps_it(tmp_path, format, per_channel):
    network = small.Around(functional.relu).eval()
    with torch.no_grad():
        network.convolution.weight[0] *= 1e-8
        network.convolution.bias[0] = 0.5
        network.convolution.weight[1] = network.convolution.bias[1] = 0
    logits = small.torch_logits(network, PIXELS)
    quant = replace(SPEC, calibration_images=len(PIXELS), per_channel=per_channel)
    assert np.abs(small.file_logits(write(tmp_path, network, format, quant), PIXELS) - logits).max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "format", "message"),
    [
        (
            lambda x: torch.maximum(x, x * 0.3 + 0.2),
            "tflite",
            "not support one of its operators.*MAXIMUM",
        ),
        (torch.erf, "onnx", "1 operator computes in float: 1 Erf"),
        (torch.erf, "tflite", "computes? in float"),
        (lambda x: x * 0, "onnx", "is the network trained"),
        (lambda x: x * 0, "tflite", "is it trained"),
        (lambda x: x.reshape(2, 8, 8, 8), "onnx", "one batch size only"),
        (lambda x: x.reshape(2, 8, 8, 8), "tflite", "litert-torch cannot convert"),
        (lambda x: x if x.sum() > 0 else -x, "onnx", "torch cannot export"),
        (lambda x: x / 0, "onnx", "infinite or NaN"),
    ],
)
def test_what_cannot_be_integer_is_named_and_leaves_nothing(tmp_path, function, format, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, small.Around(function).eval(), format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_an_untrained_mobilenet_is_an_error(tmp_path, format):
    torch.manual_seed(0)
    network = import_torchvision().models.mobilenet_v2(num_classes=10).eval()
    with pytest.raises(UserError, match="trained"):
        write(tmp_path, network, format, calibration_pixels=small.pixels(16, 64), victim=small.victim(size=64))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_mobilenet_is_integer(tmp_path, format):
    torch.manual_seed(0)
    bare = import_torchvision().models.mobilenet_v2(num_classes=10)
    images = small.pixels(32, 64)
    network = small.settled(Normalised(bare, small.MEAN, small.STD), images)
    path = write(tmp_path, network, format, calibration_pixels=images, victim=small.victim(size=64))
    counts = describe(path).counts
    assert counts.get("QLinearConv", 0) + counts.get("CONV_2D", 0) + counts.get("DEPTHWISE_CONV_2D", 0) == 52
    assert not any("float" in name for name in counts)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("depth", "accuracy"), [(20, 0.915), (56, 0.926)])
def test_cifar_resnets_keep_their_accuracy(cifar, data_dir, tmp_path, depth, accuracy):
    network, images, labels = cifar_resnet(data_dir, depth), cifar["x_test"], cifar["y_test"]
    expected = small.torch_logits(network, images)
    assert (expected.argmax(1) == labels).mean() == pytest.approx(accuracy, abs=0.002)
    changes = {"victim": small.victim(size=32), "calibration_pixels": cifar["x_train"]}
    for format in FORMATS:
        logits = small.file_logits(write(tmp_path, network, format, None, **changes), images)
        assert np.abs(logits - expected).max() < 1e-4
        for calibration in CALIBRATIONS if depth == 20 else CALIBRATIONS[:2]:
            path = write(tmp_path, network, format, QuantSpec(calibration=calibration), **changes)
            found = small.file_logits(path, images).argmax(1)
            assert (found == labels).mean() == pytest.approx(accuracy, abs=0.015), (format, calibration)


@pytest.mark.slow
@pytest.mark.data
def test_squeezenet_is_integer_in_both_formats(data_dir, tmp_path):
    from PIL import Image

    files = sorted((data_dir / "imagenet" / "images").glob("*.JPEG"))[::40]
    images = np.stack([np.asarray(Image.open(f).convert("RGB").resize((227, 227))) for f in files])
    network = import_torchvision().models.squeezenet1_0()
    network.load_state_dict(torch.load(data_dir / "imagenet" / "squeezenet1_0.pth", weights_only=True))
    first = network.features[0].weight
    first.data = first.data.flip(1)  # the file's channels are BGR
    network = Normalised(network, (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3).eval()
    expected = small.torch_logits(network, images)
    changes = {"victim": small.victim("squeezenet", 227, 1000), "calibration_pixels": images}
    for format in FORMATS:
        assert (
            np.abs(small.file_logits(write(tmp_path, network, format, None, **changes), images) - expected).max() < 1e-3
        )
        path = write(tmp_path, network, format, replace(SPEC, calibration_images=len(images)), **changes)
        assert (small.file_logits(path, images).argmax(1) == expected.argmax(1)).mean() > 0.85
        counts = describe(path).counts
        assert counts.get("QLinearConv", counts.get("CONV_2D")) == 26
        assert counts.get("QLinearConcat", counts.get("CONCATENATION")) == 8
