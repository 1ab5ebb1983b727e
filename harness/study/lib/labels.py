"""Labels for figures and captions: places, bits, calibrations, counts and what intervals are over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from backends.device.artifact import QuantSpec
from harness.study.lib.cells import BITS

RUNTIMES = {"litert": "LiteRT", "onnxruntime": "onnxruntime", "tflite_runtime": "tflite-runtime"}
RUNTIMES |= {
    "tflite_micro": "TFLite Micro",
    "executorch": "ExecuTorch",
    "tosa": "TOSA",
    "qnn": "QNN HTP",
    "tpu_mlir": "tpu-mlir",
    "sail": "BM1684X",
    "rknn": "RKNN simulation",
    "rknn_lite": "RK3588",
    "nncase": "nncase simulator",
    "esp_ppq": "ESP-PPQ simulation",
}


def place(row: Any) -> str:
    """Return ``w8a8, LiteRT`` for a row (`itertuples`): precision, settings other than the default, and runtime."""
    is_float = row.precision == "fp32"
    precision = "float" if is_float else row.precision
    if "qat" in str(row.granularity):
        precision += " trained"
    if "packed" in str(row.granularity):
        precision += " packed"
    parts = [precision]
    if row.calibration not in ("", "minmax"):
        constant = str(row.artifact).partition(f"-{row.calibration}-")[2].removeprefix(row.calibration)
        parts.append(f"{row.calibration.replace('_', ' ')} {constant}".rstrip())
    if row.runtime == "torch":
        runtime = "PyTorch" if is_float else "simulated"
    else:
        runtime = RUNTIMES.get(row.runtime, row.runtime)
    parts.append(runtime if row.host in ("local", "") else f"{runtime} {row.cpu or row.arch}")
    return ", ".join(parts)


def bits(precision: str) -> tuple[int, int]:
    """Return the bits of weights and activations; float has 32."""
    found = BITS.fullmatch(precision)
    return (int(found[1]), int(found[2])) if found else (32, 32)


def calibration(quant: QuantSpec) -> str:
    """Return a calibration with its constant, where it has one: ``percentile 99``."""
    constants = {"percentile": quant.percentile, "moving_average": quant.moving_average_constant}
    name = quant.calibration.replace("_", " ")
    return f"{name} {constants[quant.calibration]:g}" if quant.calibration in constants else name


def interval_over(table: pd.DataFrame) -> str:
    """Return what the intervals of a table's rates are over, for a caption."""
    kinds = list(dict.fromkeys(table["interval_over"].dropna()))
    if kinds in ([], ["images"]):
        return "over images, for these very patches"
    return "over " + " or ".join(kinds)


def between(counts: Iterable[float]) -> str:
    """Return ``100``, or ``134 to 180`` where counts differ."""
    known = list(counts)
    least, most = int(min(known)), int(max(known))
    return f"{least}" if least == most else f"{least} to {most}"
