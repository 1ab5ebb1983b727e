"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Option, Tensor, axes, check_options, missing

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
DTYPES = {f"tensor({name})": np.dtype(name) for name in ("int8", "uint8", "int16", "uint16")} | {
    "tensor(float)": np.dtype(np.float32)
}


class Engine:
    """ONNX Runtime with the CPU provider only; option ``optimization``: one of `LEVELS`, by default ``all``.

    ONNX declares no scale for an integer input or output: it is taken as 1 with zero point 0, so such a file takes raw
    pixels, and its logits are in steps.
    """

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    package: ClassVar[str] = "onnxruntime"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"optimization": tuple(LEVELS)}
    twins: ClassVar[Mapping[str, None]] = dict.fromkeys(f"cpu-{level}" for level in LEVELS if level != "disabled")
    saturating: ClassVar[Mapping[str, str]] = {
        "u8s8": "export with signature s8s8 or u8u8, or use a CPU with VNNI",
    }

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Open a session and check that provider, optimisation level and threads are in force."""
        chosen = check_options(options, Engine.options)
        try:
            import onnxruntime
        except ImportError as error:
            raise missing(self.package, error) from error
        level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[chosen["optimization"]])
        wanted = onnxruntime.SessionOptions()
        wanted.graph_optimization_level = level
        wanted.intra_op_num_threads = threads
        wanted.inter_op_num_threads = 1
        wanted.log_severity_level = 3
        # off by default on x86, where S8S8 would run partly in float; the proof of integer has it on
        wanted.add_session_config_entry("session.qdqisint8allowed", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(path, wanted, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise UserError(f"{path}: onnxruntime cannot load it: {error}") from error
        given = self._session.get_session_options()
        providers = self._session.get_providers()
        if given.graph_optimization_level != level or given.intra_op_num_threads != threads or len(providers) != 1:
            raise UserError(
                f"{path}: onnxruntime runs on {providers} at {given.graph_optimization_level}, not as asked"
            )
        inputs = self._session.get_inputs()
        outputs = self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or {inputs[0].type, outputs[0].type} - set(DTYPES):
            types = [[tensor.type for tensor in tensors] for tensors in (inputs, outputs)]
            raise UserError(f"{path}: expected one image in, one vector out; got {types[0]} in, {types[1]} out")
        self.input, self.output = (Tensor(axes(t.shape), DTYPES[t.type]) for t in (inputs[0], outputs[0]))
        self._name = inputs[0].name
        self._whole = self.input.shape[0] != 1
        self._info = {
            "version": onnxruntime.__version__,
            "provider": providers[0],
            "optimization": chosen["optimization"],
            "kernels": f"cpu-{chosen['optimization']}",
            "threads": str(threads),
            "qdqisint8allowed": wanted.get_session_config_entry("session.qdqisint8allowed"),
            "batching": "whole" if self._whole else "one at a time",
        }

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run a batch; a file with batch size 1 is called once per image."""
        if self._whole or len(x) == 1:
            found: NDArray[Any] = self._session.run(None, {self._name: x})[0]
            return found.reshape(len(x), -1)
        return np.concatenate([self.run(x[i : i + 1]) for i in range(len(x))])

    def info(self) -> dict[str, str]:
        """Return version, provider, optimisation level, threads, and whether S8S8 may run in integers."""
        return self._info
