"""The description of an artifact, shared by the craft side and the device."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Optional, get_args

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.json_types import read_as
from backends.device.reading import DamagedFile

Pixels = NDArray[np.uint8]  # (n, h, w, 3) RGB
Layout = Literal["nchw", "nhwc"]
Format = Literal["onnx", "tflite", "pte", "bmodel", "cvimodel", "rknn", "kmodel", "espdl"]
Calibration = Literal[
    "minmax", "moving_average", "percentile", "entropy",
    "kl", "mse", "aciq_gauss", "aciq_laplace", "percentile9999", "normal", "kl_divergence",  # of `toolchains`
    "no_clip", "kld", "kl_to_output",
    "bmodel:kl", "bmodel:mse", "bmodel:aciq_gauss", "bmodel:aciq_laplace", "bmodel:percentile9999",  # into ONNX files
    "cvimodel:kl", "cvimodel:mse", "cvimodel:aciq_gauss", "cvimodel:aciq_laplace", "cvimodel:percentile9999",
    "rknn:normal", "rknn:kl_divergence", "kmodel:no_clip", "kmodel:kld", "espdl:kl", "espdl:mse", "espdl:kl_to_output",
]  # fmt: skip
FORMATS: tuple[str, ...] = get_args(Format)
ENDINGS = f".{', .'.join(FORMATS[:-1])} or .{FORMATS[-1]}"  # as a message says it
ChannelOrder = Literal["rgb", "bgr"]
SCHEMA = 1
PARTLY = "+fp32"  # ends the precision of a partly integer file, whose suite allows some operators in float
PIECE = 1 << 20


def _require_one_of(words: Any, **given: str) -> None:
    for name, value in given.items():
        if value not in get_args(words):
            raise UserError(f"{name}: expected {', '.join(get_args(words))}, got {value!r}")


@dataclass(frozen=True)
class Preproc:
    """Preprocessing: ``(pixels / divisor - mean) / std`` as float32, in a channel order and layout.

    The defaults are those of our own artifacts, which normalise inside. ``mean`` and ``std`` are given in RGB order, in
    units of ``pixels / divisor``. A file that takes integers is fed ``quantize(preproc(pixels))`` with the scale and
    zero point of its input.
    """

    layout: Layout = "nchw"
    divisor: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        _require_one_of(Layout, layout=self.layout)
        _require_one_of(ChannelOrder, channel_order=self.channel_order)

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return float32 ``(n, 3, h, w)`` or ``(n, h, w, 3)`` for uint8 ``(n, h, w, 3)`` pixels."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise UserError(f"expected uint8 pixels (n, h, w, 3), got {pixels.dtype} {pixels.shape}")
        order = slice(None, None, -1 if self.channel_order == "bgr" else 1)
        mean, std = np.array((self.mean, self.std), dtype=np.float32)[:, order]
        n, h, w, _ = pixels.shape
        if self.layout == "nchw":
            rows = pixels[..., order].transpose(0, 3, 1, 2)
            mean = mean[:, None, None]
            std = std[:, None, None]
        else:  # three channels are too short an axis to broadcast along: numpy would take ten times as long
            rows = pixels[..., order].reshape(n, h, w * 3)
            mean = np.tile(mean, w)
            std = np.tile(std, w)
        x = np.ascontiguousarray(rows).astype(np.float32)
        x /= np.float32(self.divisor)
        if any(self.mean) or set(self.std) != {1.0}:
            x -= mean
            x /= std
        return x.reshape((n, 3, h, w) if self.layout == "nchw" else (n, h, w, 3))


@dataclass(frozen=True)
class QuantSpec:
    """How to quantize a network; every exporter and surrogate follows it, and exported files are checked against it.

    Activations are per tensor, affine, ``scale = (max - min) / (levels - 1)`` with zero inside the range (symmetric:
    ``scale = max(|min|, |max|) / 127``, zero point 0); weights are symmetric, per output channel or per tensor.
    ``moving_average`` is the exponential one of ai-edge-quantizer: ``r = c * r + (1 - c) * r_batch``, begun with the
    first batch; ``percentile`` clips the two tails of a histogram, ``entropy`` minimises the KL divergence, both as
    onnxruntime's calibrators do; ``bmodel:kl`` and the like are the ranges in the file that the compiler of that format
    makes by its own calibration. Weights of 4 bits may be ``packed`` two to a byte, in the format's own type; all
    others of fewer than 8 bits lie in 8-bit integers. ``allow_float`` names operators that the runtime may compute in
    float, such as ``LayerNormalization``; a file with any is *partly integer*.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    weight_signed: bool = True
    activation_signed: bool = True
    per_channel: bool = True
    symmetric_activations: bool = False
    calibration: Calibration = "minmax"
    moving_average_constant: float = 0.95
    percentile: float = 99.99
    calibration_images: int = 128
    calibration_batch: int = 1
    packed: bool = False
    allow_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_one_of(Calibration, calibration=self.calibration)
        if ":" in self.calibration and self.symmetric_activations:
            raise UserError(f"calibration {self.calibration} says where zero lies: leave symmetric_activations = false")
        if isinstance(self.allow_float, str):
            raise UserError(f"allow_float: expected several operators, got {self.allow_float!r}: put it into a tuple")

    @property
    def signature(self) -> str:
        """Signedness and bits of activations, then of weights, as runtimes write it: ``u8s8``."""
        sign = {True: "s", False: "u"}
        return f"{sign[self.activation_signed]}{self.activation_bits}{sign[self.weight_signed]}{self.weight_bits}"

    @property
    def precision(self) -> str:
        """Bits of weights and activations: ``w8a8``."""
        return f"w{self.weight_bits}a{self.activation_bits}"


@dataclass(frozen=True)
class Artifact:
    """A victim exported to a file, or a user's own file, with all that a device needs to run it.

    ``file`` is a name beside the JSON that describes the artifact. ``class_offset`` is added to a class to find its
    output (1 for networks whose output 0 is "background"). ``input_size`` is (height, width) in pixels.
    """

    name: str
    victim: str
    format: Format
    precision: str
    file: str
    sha256: str
    input_size: tuple[int, int]
    classes: int
    preproc: Preproc = Preproc()
    class_offset: int = 0
    output_kind: Literal["logits", "softmax"] = "logits"
    quant: Optional[QuantSpec] = None

    def save(self, path: Path) -> None:
        """Write the description as JSON."""
        path.write_text(json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Artifact:
        """Read a description; a damaged one, or one of another schema, is a `UserError` naming the file."""
        artifact = read_as(cls, path, SCHEMA)
        if not artifact.preproc.divisor or 0.0 in artifact.preproc.std:
            raise DamagedFile(f"{path}: preproc: expected a divisor and a std other than 0")
        if min(artifact.input_size) < 1 or artifact.classes < 1 or artifact.class_offset < 0:
            raise DamagedFile(f"{path}: expected an input_size and classes above 0, and a class_offset not below")
        return artifact


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
