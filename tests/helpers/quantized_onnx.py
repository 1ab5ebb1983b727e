"""The tiny network quantized by onnxruntime's own quantizer."""

from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Images(CalibrationDataReader):
    def __init__(self, n: int = 4) -> None:
        rng = np.random.default_rng(0)
        self.batches = iter([{"x": rng.random((1, 3, 8, 8), np.float32)} for _ in range(n)])

    def get_next(self):
        return next(self.batches, None)


def quantized(path: Path, source: Path) -> Path:
    """By onnxruntime's own quantizer."""
    quantize_static(
        source, path, Images(), QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        per_channel=True,
    )  # fmt: skip
    return path
