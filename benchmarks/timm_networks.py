"""Networks of timm for `zoo.py`, with random weights, as a suite's ``model = "benchmarks.timm_networks:NAME"``."""

from torch import nn

from harness.torchvision_import import import_torchvision


def efficientnet_lite0(num_classes: int) -> nn.Module:
    """EfficientNet-Lite0: no squeeze-and-excitation, ReLU6."""
    return _create("efficientnet_lite0", num_classes)


def mobilenetv4_conv_small(num_classes: int) -> nn.Module:
    """MobileNetV4 without attention."""
    return _create("mobilenetv4_conv_small", num_classes)


def repvgg_a0(num_classes: int) -> nn.Module:
    """RepVGG before its branches are merged."""
    return _create("repvgg_a0", num_classes)


def _create(name: str, classes: int) -> nn.Module:
    import_torchvision()  # which timm imports
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network
