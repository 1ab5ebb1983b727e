"""The `[[victim]]` and `[[artifact]]` tables: networks to attack, and files that the user brings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from backends.device.artifact import ENDINGS, FORMATS
from harness.config.values import (
    Classes,
    DataPath,
    HashStart,
    Model,
    Name,
    OperatorName,
    Seed,
    Sha256,
    Size,
    TrainingDefence,
    Triple,
    Weights,
)
from harness.tables import Table


class TrainTable(Table):
    """Train the victim from scratch, from a seed."""

    epochs: int = Field(10, ge=1)
    """Passes over the training images."""

    learning_rate: float = Field(0.1, gt=0)
    """The highest learning rate of the schedule."""

    batch: int = Field(64, ge=2)
    """Images per step."""

    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay of SGD."""

    flips: bool = False
    """Also train on mirror images; not for digits or letters."""

    seed: Seed = 0
    """Seed of the initial weights and of the order of the images."""

    teacher: str | None = None
    """Another victim, whose answers this one learns instead of the labels."""

    temperature: float = Field(4.0, gt=0)
    """Temperature of the teacher's answers."""

    mix: float = Field(0.5, ge=0, le=1)
    """With a teacher: the largest share of another image that is mixed into each."""

    defence: TrainingDefence = ""
    """What the network also learns against patches, `cutout`, `pat`, `qadt_r` or `triqdef`; `pat:8` against patches of
    8 pixels. By default, patches have a quarter of the image's side."""


class VictimTable(Table):
    """A classifier to attack. Give it either `weights` or a `train` table."""

    name: Name
    """Its name in the results."""

    model: Model
    """A built-in architecture (`resnet8`, `resnet20`, `resnet32`, `resnet44`, `resnet56`, `plain_cnn`, `cifar_vgg`,
    `cifar_mobilenet_v2`), a torchvision model, or `package.module:function`, which is called without arguments."""

    weights: Weights | None = None
    """A state dict: a file under `--data`, a URL, one of torchvision's names (`IMAGENET1K_V1`), or `DIGITS_V1`, which
    ships with patchbench for `plain_cnn`."""

    weights_sha256: HashStart | None = None
    """SHA-256 of the weights; required for a URL."""

    train: TrainTable | None = None
    """Train the network instead of loading weights."""

    classes: Classes | None = None
    """Number of classes; by default, those of the data."""

    input_size: Size | None = None
    """Height and width of the input; by default, those of the data."""

    mean: Triple = (0.0, 0.0, 0.0)
    """Mean that is subtracted from each channel, for RGB in [0, 1]."""

    std: Triple = (1.0, 1.0, 1.0)
    """Standard deviation that each channel is divided by afterwards."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels that the network was trained with."""

    claimed_accuracy: float | None = Field(None, gt=0, le=1)
    """Accuracy that its maker claims; a check fails if the run measures something more than 5 points away."""

    @model_validator(mode="after")
    def _one_source(self) -> VictimTable:
        if (self.weights is None) == (self.train is None):
            raise ValueError(f"victim {self.name!r}: give either weights or a [victim.train] table")
        return self


class ArtifactTable(Table):
    """A model file of your own, and how a device feeds it.

    Its input is `(pixels / divisor - mean) / std` in `channel_order`. A file that takes integers then applies its own
    scale and zero point.
    """

    name: Name
    """Its name in the results."""

    file: DataPath
    """An `.onnx`, `.tflite` or `.pte` file under `--data`, or a `.bmodel`, `.cvimodel`, `.rknn`, `.kmodel` or
    `.espdl` that was exported here."""

    sha256: Sha256 | None = None
    """SHA-256 that the file must have."""

    precision: Literal["fp32", "w8a8"] = "w8a8"
    """What the file computes in."""

    allow_float: tuple[OperatorName, ...] = ()
    """Operators that a `w8a8` file may compute in float; it is then *partly integer*, and its precision `w8a8+fp32`."""

    classes: Classes | None = None
    """Number of classes; by default, those of the data."""

    class_offset: int = Field(0, ge=0)
    """Index of the output that stands for class 0; 1 where output 0 is "background"."""

    input_size: Size | None = None
    """Height and width of the input; by default, those of the data."""

    layout: Literal["nchw", "nhwc"] | None = None
    """Order of the input's axes; by default, `nhwc` for `.tflite` and `nchw` for others."""

    divisor: float = Field(255.0, gt=0)
    """What pixels from 0 to 255 are divided by first."""

    mean: Triple = (0.0, 0.0, 0.0)
    """Mean that is subtracted from each channel."""

    std: Triple = (1.0, 1.0, 1.0)
    """Standard deviation that each channel is divided by afterwards."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels that the file expects."""

    output_kind: Literal["logits", "softmax"] = "logits"
    """What its outputs are."""

    claimed_accuracy: float | None = Field(None, gt=0, le=1)
    """Accuracy that its maker claims; a check fails if the run measures something more than 5 points away."""

    @model_validator(mode="after")
    def _known_format(self) -> ArtifactTable:
        if not self.file.endswith(tuple(f".{name}" for name in FORMATS)):
            raise ValueError(f"artifact {self.name!r}: expected a file that ends in {ENDINGS}, got {self.file}")
        return self
