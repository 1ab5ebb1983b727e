"""Operators drawn at random, one to a file, whose integers are compared with the kernels' own."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import reject

from backends.device.errors import UserError
from harness.run.arithmetic import Arithmetic, compare_in_batches
from helpers import drawn_attention, drawn_images, drawn_onnx, drawn_pte, drawn_tflite
from patches.twins import twin

IMAGES = 4
BATCHES = (1, IMAGES)
Draw = Callable[[Any], Any]
TFLITE = drawn_images.TFLITE | drawn_attention.TFLITE
ONNX = drawn_images.ONNX | drawn_attention.ONNX
PTE = drawn_pte.OPERATORS


def kinds() -> list[tuple[str, str]]:
    """TFLite's operators, each with the integers that it computes in."""
    return [
        (name, dtype)
        for name in TFLITE
        for dtype in ("int8", "uint8")
        if dtype == "int8" or name not in drawn_attention.INT8
    ]


def pixels(height: int, width: int) -> np.ndarray:
    """Every level in turn, the extremes alone, and two of noise."""
    random, shape = np.random.default_rng(7), (height, width, 3)
    ramp = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    noise = random.integers(0, 256, (2, *shape), np.uint8)
    return np.stack([ramp, random.integers(0, 2, shape, np.uint8) * 255, *noise])


def tflite(draw: Draw, name: str, dtype: str, kernels: str) -> list[Arithmetic]:
    """Draw an operator's file and compare it in batches; one that the runtime itself refuses is drawn again."""
    net = drawn_tflite.Drawn(draw, dtype)
    output = TFLITE[name](net)
    _, height, width, _ = net.tensors["x"].shape
    with tempfile.TemporaryDirectory() as folder:
        return _compare(net.write(Path(folder), output, any_batch=False), kernels, height, width)


def onnx(draw: Draw, name: str, activations: str, weights: str) -> list[Arithmetic]:
    """Draw an operator's file and compare it; see `tflite`."""
    net = drawn_onnx.Drawn(draw, activations, weights)
    output = ONNX[name](net)
    with tempfile.TemporaryDirectory() as folder:
        return _compare(net.write(Path(folder), output, net.batch), None, *net.image)


def pte(draw: Draw, name: str) -> list[Arithmetic]:
    """Draw a node's file and compare it; see `tflite`."""
    net = drawn_pte.Drawn(draw)
    net.last(PTE[name](net))
    with tempfile.TemporaryDirectory() as folder:
        return _compare(net.write(Path(folder) / "net.pte"), None, *net.image)


def unequal(found: list[Arithmetic]) -> list[Arithmetic]:
    """The comparisons in which not all integers are equal."""
    return [one for one in found if one.equal < 1]


def _compare(file: Path, kernels: str | None, height: int, width: int) -> list[Arithmetic]:
    try:
        made = twin(file, kernels, layout="nhwc" if file.suffix == ".tflite" else "nchw")
        return compare_in_batches(made, pixels(height, width), BATCHES)
    except UserError as error:
        if "cannot load it" in str(error) or "onnxruntime refuses it" in str(error):
            reject()
        raise
