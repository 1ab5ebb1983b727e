"""The networks of `zoo.py`; those of timm as a suite's ``model = "benchmarks.zoo_networks:NAME"``."""

from typing import NamedTuple

from torch import nn

from harness.torchvision_import import import_torchvision


class Entry(NamedTuple):
    """A network of the zoo: its images' size, how many it learns from and how often, and where its weights are from."""

    model: str
    size: int = 64
    images: int = 4000
    epochs: int = 2
    rate: float = 0.05
    weights: str | None = None  # those of ImageNet, in place of training

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.model.rpartition(":")[2]

    @property
    def is_random(self) -> bool:
        """Whether its weights are random: it is too large to train here."""
        return not self.epochs and not self.weights

    @property
    def origin(self) -> str:
        """Where its weights are from."""
        if self.weights:
            return "ImageNet"
        return "random" if self.is_random else f"CIFAR-10, {self.epochs} x {self.images}"


ZOO = [
    Entry("mobilenet_v3_small"),
    Entry("shufflenet_v2_x0_5"),
    Entry("mnasnet0_5"),
    Entry("squeezenet1_1", epochs=0),
    Entry("mobilenet_v2", epochs=1),
    Entry("resnet18", images=2000, epochs=1),
    Entry("mobilenet_v3_large", epochs=1),
    Entry("efficientnet_b0", images=2000, epochs=1),
    Entry("regnet_x_400mf", images=2000, epochs=1),
    Entry("regnet_y_400mf", images=2000, epochs=1),
    Entry("benchmarks.zoo_networks:efficientnet_lite0", images=2000, epochs=1),
    Entry("benchmarks.zoo_networks:mobilenetv4_conv_small", images=2000, epochs=1),
    Entry("googlenet", epochs=0),
    Entry("alexnet", epochs=0),
    Entry("benchmarks.zoo_networks:repvgg_a0", epochs=0),
    Entry("densenet121", epochs=0),
    Entry("resnet50", epochs=0),
    Entry("resnext50_32x4d", epochs=0),
    Entry("wide_resnet50_2", epochs=0),
    Entry("vgg11_bn", epochs=0),
    Entry("squeezenet1_0", size=227, weights="imagenet/squeezenet1_0.pth"),
    Entry("inception_v3", size=299, epochs=0),
]


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
