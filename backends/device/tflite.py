"""TensorFlow Lite's interpreter, which several packages ship with the same API in different versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.delegates import weighted_outside
from backends.device.errors import UserError
from backends.device.runtimes import Option, Tensor, axes, check_options, missing

RESOLVERS = {"xnnpack": "BUILTIN", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


class Engine:
    """The interpreter of a package; option ``kernels``: ``xnnpack`` (the delegate), ``builtin`` or ``reference``.

    A file whose input has a dynamic first axis takes whole batches, any other one image at a time. A subclass gives the
    package, its default kernels, and where to import the interpreter from.
    """

    formats: ClassVar[tuple[str, ...]] = ("tflite",)
    package: ClassVar[str]
    twins: ClassVar[Mapping[str, str]] = {name: name for name in RESOLVERS}
    default_kernels: ClassVar[str] = "xnnpack"

    def parts(self) -> tuple[Any, Any]:
        """Import the package's ``Interpreter`` and ``OpResolverType``."""
        raise NotImplementedError

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Open an interpreter and check, by its operators, that the kernels asked for are in force."""
        known = sorted(RESOLVERS, key=lambda name: name != self.default_kernels)
        self._kernels = check_options(options, {"kernels": tuple(known)})["kernels"]
        try:
            interpreter, resolvers = self.parts()
        except ImportError as error:
            raise missing(self.package, error) from error
        try:
            self._interpreter: Any = interpreter(
                model_path=str(path),
                num_threads=threads,
                experimental_op_resolver_type=resolvers[RESOLVERS[self._kernels]],
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: {self.package} cannot load it: {error}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise UserError(f"{path}: expected one input and one output, got {len(inputs)} and {len(outputs)}")
        self._path = path
        self._input_index = inputs[0]["index"]
        self._output_index = outputs[0]["index"]
        for tensor in (*inputs, *outputs):
            if tensor["dtype"] != np.float32 and not tensor["quantization"][0]:
                raise UserError(
                    f"{path}: {tensor['name']} is {tensor['dtype'].__name__} without a scale: its values are undefined"
                )
        self.input, self.output = (
            Tensor(axes(tensor["shape_signature"]), np.dtype(tensor["dtype"]), *tensor["quantization"])
            for tensor in (*inputs, *outputs)
        )
        self._takes_batches = self.input.shape[0] is None
        self._n = int(inputs[0]["shape"][0])
        delegates = self._delegates()
        left = weighted_outside(self._interpreter) if delegates else ""
        self._info = {
            "version": version(self.package),
            "kernels": self._kernels + (f" (builtin: {left})" if left else ""),
            "delegates": str(delegates),
            "operators": ", ".join(f"{n} {name}" for name, n in self._operators().most_common()),
            "threads": str(threads),
            "batching": "whole" if self._takes_batches else "one at a time",
        }

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run a batch; integers where the file's output is integer."""
        if self._takes_batches or len(x) == 1:
            return self._invoke(x)
        return np.concatenate([self._invoke(x[i : i + 1]) for i in range(len(x))])

    def info(self) -> dict[str, str]:
        """Return version, kernels, threads, operators and delegates in force.

        ``kernels`` also names operators with weights that the delegate left to the built-in kernels.
        """
        return self._info

    def _invoke(self, x: NDArray[Any]) -> NDArray[Any]:
        if len(x) != self._n:
            self._interpreter.resize_tensor_input(self._input_index, x.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._delegates()
            self._n = len(x)
        self._interpreter.set_tensor(self._input_index, x)
        self._interpreter.invoke()
        raw: NDArray[Any] = self._interpreter.get_tensor(self._output_index)
        return raw.reshape(len(x), -1)

    def _operators(self) -> Counter[str]:
        return Counter(op["op_name"] for op in self._interpreter._get_ops_details())

    def _delegates(self) -> int:
        count = self._operators()["DELEGATE"]
        if (count > 0) != (self._kernels == "xnnpack"):
            raise UserError(
                f"{self._path}: kernels {self._kernels!r} are not in force: {count} delegates are; choose other kernels"
            )
        return count
