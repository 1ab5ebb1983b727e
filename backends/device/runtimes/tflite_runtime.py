"""tflite-runtime, TensorFlow Lite's interpreter for boards: 2.14 is the last release, built for numpy 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.device import tflite


class Engine(tflite.Engine):
    """tflite-runtime; ``kernels`` is ``builtin`` by default.

    Its XNNPACK runs float files only: with an INT8 file, ``xnnpack`` is an error.
    """

    package: ClassVar[str] = "tflite-runtime"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"kernels": ("builtin", "xnnpack", "reference")}
    default_kernels: ClassVar[str] = "builtin"

    def parts(self) -> tuple[Any, Any]:
        """Import them; see `tflite.Engine.parts`."""
        from tflite_runtime import interpreter

        return interpreter.Interpreter, interpreter.OpResolverType
