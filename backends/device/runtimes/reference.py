"""ONNX's own reference evaluator, in numpy: slow, and what the others are held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.quantize import dequantize, quantize
from backends.device.runtimes import Option, Outputs, check_input, check_options, missing


class Engine:
    """The reference evaluator of the ONNX project. No options; integer inputs and outputs as with onnxruntime."""

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    package: ClassVar[str] = "onnx"

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Reads the graph; `threads` are numpy's own business, set from outside."""
        check_options(options, {})
        try:
            import onnx
            from onnx.reference import ReferenceEvaluator
        except ImportError as error:
            raise missing(self.package, error) from error
        try:
            model = onnx.load(path)
            onnx.checker.check_model(model)
            self._evaluator: Any = ReferenceEvaluator(model)
        except Exception as error:  # protobuf's, onnx's and the evaluator's own have no common base
            raise UserError(f"{path}: onnx cannot load it: {error}") from error
        (self._input,) = model.graph.input
        tensor = self._input.type.tensor_type
        self._path, self._shape = path, [axis.dim_value or None for axis in tensor.shape.dim]
        self._dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        self._info = {"version": onnx.__version__, "kernels": "reference", "threads": str(threads)}

    def prepare(self, x: NDArray[np.float32]) -> NDArray[Any]:
        """Float32 as it is; for a file that takes integers, the nearest ones."""
        check_input(self._path, x, self._shape)
        return x if self._dtype == np.float32 else quantize(x, 1, 0, self._dtype)

    def run(self, x: NDArray[Any]) -> Outputs:
        """Outputs for a batch; a file for one image at a time is called once an image."""
        parts = [x] if self._shape[0] != 1 else [x[i : i + 1] for i in range(len(x))]
        found = [self._evaluator.run(None, {self._input.name: part})[0].reshape(len(part), -1) for part in parts]
        raw = np.concatenate(found)
        return Outputs(raw) if raw.dtype == np.float32 else Outputs(dequantize(raw, 1, 0), raw)

    def info(self) -> dict[str, str]:
        """The version of the onnx package."""
        return self._info
