"""Build networks by name: ours for CIFAR, torchvision's classifiers, a user's function."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.errors import UserError, did_you_mean
from harness.torchvision_import import import_torchvision

CIFAR_RESNETS = (8, 20, 32, 44, 56)  # 6n + 2 layers
PLAIN_CNN = ((16, 1), (32, 2), (64, 2))  # channels and stride of 3x3 convolutions
# Channels of 3x3 convolutions, 0 where the resolution is halved; then blocks of expansion, channels, repeats, stride.
CIFAR_VGG = (32, 32, 0, 64, 64, 0, 128, 128, 0, 256, 256)
CIFAR_MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 1), (6, 64, 3, 2), (6, 96, 2, 1), (6, 160, 2, 2), (6, 320, 1, 1),
)  # fmt: skip


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without weights (option A of He et al. 2016, section 4.2).

    Where the block halves the resolution, the shortcut takes every second pixel and pads zero channels on both sides.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps ``(n, channels, h / stride, w / stride)``."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """The ResNet of He et al. 2016, section 4.2: three stages of 16, 32 and 64 channels, for images around 32x32.

    The names of its weights are those of the published CIFAR-10 state dicts (akamaster/pytorch_resnet_cifar10).
    """

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, 1)
        self.layer2 = _stage(blocks, 16, 32, 2)
        self.layer3 = _stage(blocks, 32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)``."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


def _stage(blocks: int, channels_in: int, channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def plain_cnn(classes: int) -> nn.Module:
    """Three convolutions with batch normalisation and no shortcuts, mean pooling, and one linear layer: the demo's."""
    layers: list[nn.Module] = []
    before = 3
    for channels, stride in PLAIN_CNN:
        layers += [nn.Conv2d(before, channels, 3, stride, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def cifar_vgg(classes: int) -> nn.Module:
    """A VGG (Simonyan and Zisserman 2015) for images around 32x32: eight narrow convolutions, one linear layer.

    Batch normalisation after each convolution; 54 million multiplications per image, ResNet-20 has 41.
    """
    layers: list[nn.Module] = []
    before = 3
    for channels in CIFAR_VGG:
        if channels:
            conv = nn.Conv2d(before, channels, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def cifar_mobilenet_v2(classes: int) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018) of half the width for images around 32x32, which it halves three times.

    torchvision's, with a first convolution of stride 1, fewer blocks and no dropout; 19 million multiplications.
    """
    models = import_torchvision().models.mobilenetv2
    network: nn.Module = models.MobileNetV2(
        num_classes=classes,
        width_mult=0.5,
        inverted_residual_setting=[list(b) for b in CIFAR_MOBILENET_V2],
        dropout=0.0,
    )
    network.features[0][0].stride = (1, 1)  # type: ignore[index, union-attr, method-assign]
    return network


OWN = {"plain_cnn": plain_cnn, "cifar_vgg": cifar_vgg, "cifar_mobilenet_v2": cifar_mobilenet_v2}


def build(model: str, classes: int, seed: int = 0) -> nn.Module:
    """Build a network with weights drawn from the seed: float32 ``(n, 3, h, w)`` to logits ``(n, classes)``.

    ``model`` is resnet8/20/32/44/56, plain_cnn, cifar_vgg, cifar_mobilenet_v2, a torchvision classifier, or
    ``package.module:function``, also from the current folder. A model that cannot be built is a `UserError`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in model:
            return _of_user(model, classes)
        if model in [f"resnet{layers}" for layers in CIFAR_RESNETS]:
            return CifarResNet((int(model.removeprefix("resnet")) - 2) // 6, classes)
        if model in OWN:
            return OWN[model](classes)
        if is_torchvision(model):
            with warnings.catch_warnings():  # of how weights will be drawn in a later version
                warnings.simplefilter("ignore", FutureWarning)
                network: nn.Module = import_torchvision().models.get_model(model, weights=None, num_classes=classes)
            return network
    ours = f"resnet{'/'.join(map(str, CIFAR_RESNETS))}, {', '.join(OWN)}"
    raise UserError(f"no model {model!r}: expected {ours}, a torchvision classifier or package.module:function")


def is_torchvision(model: str) -> bool:
    """Whether a name is one of torchvision's classifiers."""
    models = import_torchvision().models
    return model in models.list_models(module=models)


def _of_user(model: str, classes: int) -> nn.Module:
    module_name, _, function_name = model.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name, None)
        if function is None:
            known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise UserError(
                f"model {model!r}: no {function_name!r} in {module_name}; {did_you_mean(function_name, known)}"
            )
        parameters = inspect.signature(function).parameters.values()
        takes_classes = any(p.name == "num_classes" or p.kind is p.VAR_KEYWORD for p in parameters)
        network = function(num_classes=classes) if takes_classes else function()
    except UserError:
        raise
    except Exception as error:  # a user's code can raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(
                f"model {model!r}: no module {error.name!r}; it is imported from the current folder, {Path.cwd()}: "
                "run from the folder that has it"
            ) from error
        raise UserError(f"model {model!r} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model {model!r}: expected a torch.nn.Module, got {type(network).__name__}")
    return network
