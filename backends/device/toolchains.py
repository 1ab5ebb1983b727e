"""Vendors' toolchains, each of which compiles float networks for its own chips: their formats and calibrations."""

from __future__ import annotations

from typing import NamedTuple


class Toolchain(NamedTuple):
    """A toolchain; ``module`` names its exporter, its reader of files and its runtime, which simulates the chip.

    `on_board` is the runtime of a board with that chip, where it has one for Python. All quantize to w8a8 with a scale
    a channel; activations are `symmetric` or have zero points.
    """

    package: str  # as pip names it
    module: str
    formats: tuple[str, ...]
    calibrations: tuple[str, ...]  # its own, by its names
    symmetric: bool
    signature: str = "s8s8"
    on_board: str = ""


TPU_MLIR = Toolchain(
    "tpu-mlir",
    "tpu_mlir",
    formats=("cvimodel", "bmodel"),
    calibrations=("kl", "mse", "aciq_gauss", "aciq_laplace", "percentile9999"),
    symmetric=True,
    on_board="sail",
)
RKNN = Toolchain(
    "rknn-toolkit2",
    "rknn",
    formats=("rknn",),
    calibrations=("normal", "kl_divergence"),
    symmetric=False,
    on_board="rknn_lite",
)
NNCASE = Toolchain(
    "nncase", "nncase", formats=("kmodel",), calibrations=("no_clip", "kld"), symmetric=False, signature="u8s8"
)
ESP_PPQ = Toolchain(
    "esp-ppq", "esp_ppq", formats=("espdl",), calibrations=("kl", "mse", "kl_to_output"), symmetric=True
)
TOOLCHAINS = (TPU_MLIR, RKNN, NNCASE, ESP_PPQ)
OF_FORMATS = {format: one for one in TOOLCHAINS for format in one.formats}
ON_BOARDS = {one.module: one.on_board for one in TOOLCHAINS if one.on_board}  # by the runtime that simulates


ONNX = "onnx"  # whose files take the ranges of any compiler's, as ``FORMAT:CALIBRATION``


def of_calibration(calibration: str) -> tuple[Toolchain, ...]:
    """Return the toolchains that have a calibration, each its own way to it; none for one of ours."""
    format, _, name = calibration.rpartition(":")
    known = (OF_FORMATS[format],) if format else TOOLCHAINS
    return tuple(one for one in known if name in one.calibrations)


def taking(calibration: str) -> tuple[str, ...]:
    """Return the formats whose files take a toolchain's calibration; none for one of ours, which all take."""
    if ":" in calibration:
        return (ONNX,)
    return tuple(format for one in of_calibration(calibration) for format in one.formats)


def needed(format: str, calibration: str) -> Toolchain | None:
    """Return the toolchain that makes a file of a format with a calibration, or finds its ranges."""
    return OF_FORMATS.get(calibration.partition(":")[0] if ":" in calibration else format)


def owned(calibration: str) -> str:
    """Return whose calibration one is and what for, as a message says it; empty for one of ours."""
    owners = of_calibration(calibration)
    whose = " and ".join(f"{one.package}'s" for one in owners)
    return f"calibration {calibration} is {whose}, for {' and '.join(taking(calibration))} alone" if owners else ""
