"""Three tiny networks, in files beside this one, and their outputs, computed in numpy alone.

``tiny.onnx`` and ``tiny.pte`` are a float convolution, ReLU, global average and dense layer, ``tiny.cvimodel``,
``tiny.espdl``, ``tiny.kmodel`` and ``tiny.rknn`` (what lies behind such a file) the same quantized; ``tiny.tflite`` is
one dense layer in int8, and ``tiny.qdq.onnx`` the same between quantizers, for runtimes that take no float file. All
classify 8x8 images into four classes. `tests/helpers/tiny.py` and ``tiny_torch.py`` write the files from the constants
here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Artifact, Pixels, Preproc, sha256_file
from backends.device.runtimes import Runtime
from backends.device.toolchains import OF_FORMATS

SIZE, CLASSES = 8, 4


class Scale(NamedTuple):
    """A scale and its zero point."""

    scale: float
    zero_point: int


X, W, Y = Scale(1 / 255, -128), Scale(0.02, 0), Scale(0.25, 7)  # of the dense layer's input, weights and output
OUTPUTS = {"tflite": Y, "espdl": Scale(0.125, 0)}  # of files that give integers


def constants() -> dict[str, NDArray[np.float32]]:
    """Return the float network's weights: convolution ``w`` ``(5, 3, 3, 3)`` and ``b``, dense layer ``v``."""
    rng = np.random.default_rng(0)
    shapes = {"w": (5, 3, 3, 3), "b": (5,), "v": (5, CLASSES)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def dense_constants() -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return weights ``(classes, inputs)`` and bias of the TFLite network."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, (CLASSES, SIZE * SIZE * 3)).astype(np.int8)
    return weights, rng.integers(-5000, 5000, CLASSES).astype(np.int32)


def artifact(file: Path, **changes: Any) -> Artifact:
    """Describe one of the files."""
    kind = file.suffix[1:]
    facts: dict[str, Any] = {"name": "tiny", "victim": "tiny", "format": kind, "precision": "w8a8", "file": file.name}
    facts |= {"sha256": sha256_file(file), "input_size": (SIZE, SIZE), "classes": CLASSES}
    facts["preproc"] = Preproc("nhwc" if kind == "tflite" else "nchw")
    return Artifact(**facts | changes)


def network_for(engine: type[Runtime]) -> str:
    """Return the network that a runtime can run."""
    first = engine.formats[0]
    return "qdq.onnx" if first == "onnx" and getattr(engine, "integers_only", False) else first


def file(kind: str) -> Path:
    """Return the file of a network: ``tiny.onnx``, ``tiny.qdq.onnx`` or another, by what stands behind ``tiny``."""
    return Path(__file__).with_name(f"tiny.{kind}")


def faults(kind: str, pixels: Pixels, logits: NDArray[np.float32]) -> str:
    """Return how logits for `pixels` differ from the network's, empty if they agree.

    Float logits may differ by 1e-4; integers by half a step of rounding, and a little for a kernel's fixed-point
    multiplier. In ``qdq.onnx`` they may differ by a step more, since a vendor's emulator is held to no integer. What
    a vendor's toolchain made, as reals, may differ by a twentieth of the largest logit, as of a quantized network.
    """
    if logits.shape != (len(pixels), CLASSES):
        return f"expected shape {(len(pixels), CLASSES)}, got {logits.shape}"
    if kind in ("onnx", "pte"):
        off = np.abs(logits - _convolved(pixels)) / (1 + np.abs(logits))
        return f"off by {off.max():.2g} of their size" if not off.max() < 1e-4 else ""
    if kind in OF_FORMATS:
        expected = _convolved(pixels)
        share = np.abs(logits - expected).max() / np.abs(expected).max()
        return f"off by {share:.2g} of the largest" if not share < 0.05 else ""
    steps = logits.astype(np.float64) / Y.scale + Y.zero_point
    quantized = kind == "qdq.onnx"
    off = np.abs(steps - np.clip(_dense(pixels.transpose(0, 3, 1, 2) if quantized else pixels), -128, 127))
    return f"off by {off.max():.3f} steps" if not off.max() < (1.51 if quantized else 0.51) else ""


def _convolved(pixels: Pixels) -> NDArray[np.float64]:
    found = constants()
    x = pixels.transpose(0, 3, 1, 2) / 255
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    features = np.einsum("nchwij,ocij->nohw", windows, found["w"]) + found["b"][:, None, None]
    logits: NDArray[np.float64] = np.maximum(features, 0).mean((2, 3)) @ found["v"]
    return logits


def _dense(pixels: Pixels) -> NDArray[np.floating[Any]]:
    """Return the output before rounding, in steps; the input's integers are the pixels minus 128."""
    weights, bias = (constant.astype(np.int64) for constant in dense_constants())
    inputs = pixels.reshape(len(pixels), -1).astype(np.int64) - 128
    return ((inputs - X.zero_point) @ weights.T + bias) * (X.scale * W.scale / Y.scale) + Y.zero_point
