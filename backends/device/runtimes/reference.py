"""ONNX's own reference evaluator in numpy: slow, and the yardstick for the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Option, Tensor, axes, check_options, missing


class Engine:
    """The reference evaluator of the ONNX project. No options; integer inputs and outputs as with onnxruntime."""

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    package: ClassVar[str] = "onnx"

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Read the graph; `threads` are up to numpy and set from outside."""
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
        (given,), (wanted,) = model.graph.input, model.graph.output
        self.input, self.output = (
            Tensor(
                axes([axis.dim_value for axis in tensor.shape.dim]),
                np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)),
            )
            for tensor in (given.type.tensor_type, wanted.type.tensor_type)
        )
        self._name = given.name
        self._info = {"version": onnx.__version__, "kernels": "reference", "threads": str(threads)}

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run a batch; a file with batch size 1 is called once per image."""
        if self.input.shape[0] != 1 or len(x) == 1:
            found: NDArray[Any] = self._evaluator.run(None, {self._name: x})[0]
            return found.reshape(len(x), -1)
        return np.concatenate([self.run(x[i : i + 1]) for i in range(len(x))])

    def info(self) -> dict[str, str]:
        """Return the version of the onnx package."""
        return self._info
