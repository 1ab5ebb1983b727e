"""Calibration: activation ranges from images, and the scales that follow, for surrogates and exporters alike."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Calibration, Pixels, QuantSpec
from backends.device.errors import UserError
from backends.device.toolchains import owned

Floats = NDArray[np.float32]
Range = tuple[float, float]

# A narrower range is not worth 255 levels: the activation is constant, as in an untrained network.
SMALLEST_SPAN = 1e-6


class Affine(NamedTuple):
    """``real = scale * (integer - zero_point)``."""

    scale: float
    zero_point: int


class Statistic(Protocol):
    """A running statistic of tensors over batches, of constant size."""

    def feed(self, tensors: Mapping[str, Floats]) -> None:
        """Add one batch: tensor by name."""

    def ranges(self) -> dict[str, Range]:
        """Return (min, max) by name."""


def collector(spec: QuantSpec) -> Statistic:
    """Return an empty statistic for ``spec.calibration``; a toolchain's own calibration is a `UserError`."""
    if whose := owned(spec.calibration):
        raise UserError(whose)
    if spec.calibration in ("minmax", "moving_average"):
        return Extremes(spec.moving_average_constant if spec.calibration == "moving_average" else None)
    return Histograms(spec.calibration, spec.percentile, spec.symmetric_activations)


class Extremes:
    """Minimum and maximum, over all batches or as an exponential moving average that starts with the first.

    The average is ``r = c * r + (1 - c) * r_batch`` (Jacob et al. 2018, section 3.1), as in ai-edge-quantizer.
    """

    def __init__(self, constant: float | None = None) -> None:
        self._constant = constant
        self._ranges: dict[str, Range] = {}

    def feed(self, tensors: Mapping[str, Floats]) -> None:
        """Add one batch: tensor by name."""
        for name, values in tensors.items():
            _require_finite(name, values)
            low, high = float(values.min()), float(values.max())
            if name in self._ranges:
                old_low, old_high = self._ranges[name]
                c = self._constant
                if c is None:
                    low, high = min(old_low, low), max(old_high, high)
                else:
                    low, high = c * old_low + (1 - c) * low, c * old_high + (1 - c) * high
            self._ranges[name] = (low, high)

    def ranges(self) -> dict[str, Range]:
        """Return (min, max) by name."""
        return dict(self._ranges)


class Histograms:
    """One histogram per tensor, by onnxruntime's collector with its calibrators' constants.

    ``percentile`` drops ``(100 - p) / 2`` % at either end, ``entropy`` takes the threshold of least KL divergence
    (Migacz 2017, "8-bit inference with TensorRT"). The first batch sets the bin width.
    """

    def __init__(self, method: Calibration, percentile: float, symmetric: bool) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._collector: Any = HistogramCollector(
            method=method,
            symmetric=symmetric,
            num_bins=2048 if method == "percentile" else 128,
            num_quantized_bins=128,
            percentile=percentile,
            scenario="same",
        )

    def feed(self, tensors: Mapping[str, Floats]) -> None:
        """Add one batch: tensor by name."""
        for name, values in tensors.items():
            _require_finite(name, values)
        with redirect_stdout(io.StringIO()):
            self._collector.collect(dict(tensors))

    def ranges(self) -> dict[str, Range]:
        """Return (min, max) by name."""
        with redirect_stdout(io.StringIO()):
            found = self._collector.compute_collection_result()
        return {name: (float(low), float(high)) for name, (low, high, *_) in found.items()}


def batches(pixels: Pixels, spec: QuantSpec) -> Iterator[Pixels]:
    """Yield the first ``spec.calibration_images`` images in batches; too few are a `UserError`."""
    if len(pixels) < spec.calibration_images:
        raise UserError(f"calibration needs {spec.calibration_images} images, got {len(pixels)}")
    for start in range(0, spec.calibration_images, spec.calibration_batch):
        yield pixels[start : min(start + spec.calibration_batch, spec.calibration_images)]


def require_spans(collected: Mapping[str, Range]) -> None:
    """Raise a `UserError` for an activation that is the same, or almost, on all calibration images."""
    for name, span in collected.items():
        low, high = min(span[0], 0.0), max(span[1], 0.0)
        if not high - low > SMALLEST_SPAN:
            raise UserError(
                f"activation {short(name)!r} stays within [{low:g}, {high:g}] over the calibration images, no range "
                "for integers: is the network trained, and are its weights loaded?"
            )


def activation_affine(name: str, span: Range, spec: QuantSpec) -> Affine:
    """Return the scale and zero point of an activation or a constant, by the formulas of `QuantSpec`.

    Unsigned symmetric integers are the signed ones plus 2^(bits - 1). An empty range is a `UserError`.
    """
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    if not high - low > 0:
        raise UserError(f"{short(name)!r} is always 0, no range for integers")
    half = 2 ** (spec.activation_bits - 1)
    offset = 0 if spec.activation_signed else half
    if spec.symmetric_activations:
        return Affine(max(-low, high) / (half - 1), offset)
    scale = (high - low) / (2 * half - 1)
    return Affine(scale, round(-half - low / scale) + offset)


def weight_scales(weights: Floats, axis: int | None, bits: int = 8) -> NDArray[np.float64]:
    """Return scales ``max |w| / (2^(bits - 1) - 1)``: one per channel along ``axis``, or a single one for None."""
    others = tuple(i for i in range(weights.ndim) if i != axis) if axis is not None else None
    largest = np.abs(weights.astype(np.float64)).max(axis=others)
    return np.atleast_1d(np.asarray(largest / (2 ** (bits - 1) - 1), np.float64))


def short(name: str) -> str:
    """Return the end of a tensor's name, which in TFLite files is the whole path to its module."""
    return name if len(name) <= 80 else f"...{name[-77:]}"


def _require_finite(name: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise UserError(f"activation {short(name)!r} is infinite or NaN on a calibration image")
