"""ONNX Runtime with nothing but its defaults: the smallest useful runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Option, Tensor, axes, check_options, missing

DTYPES = {"tensor(float)": np.dtype(np.float32), "tensor(int8)": np.dtype(np.int8), "tensor(uint8)": np.dtype(np.uint8)}


class Engine:
    """ONNX Runtime on the CPU, without options."""

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    package: ClassVar[str] = "onnxruntime"

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Open a session, and say what the file takes and gives."""
        check_options(options, {})  # refuse what this runtime does not have
        try:
            import onnxruntime  # here, not above: the file must import where the package is missing
        except ImportError as error:
            raise missing(self.package, error) from error
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        try:
            self._session: Any = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"{path}: onnxruntime cannot load it: {error}") from error
        given = self._session.get_inputs()[0]
        wanted = self._session.get_outputs()[0]
        self.input = Tensor(axes(given.shape), DTYPES[given.type])
        self.output = Tensor(axes(wanted.shape), DTYPES[wanted.type])
        self._info = {"version": onnxruntime.__version__, "kernels": "cpu", "threads": str(threads)}

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the file's own outputs ``(n, outputs)`` for a batch of its own inputs."""
        name = self._session.get_inputs()[0].name
        if self.input.shape[0] != 1:
            return self._session.run(None, {name: x})[0].reshape(len(x), -1)
        single = [self._session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))]
        return np.concatenate(single).reshape(len(x), -1)

    def info(self) -> dict[str, str]:
        """Report what is in force."""
        return self._info
