"""LiteRT, the interpreter once called TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.device import tflite


class Engine(tflite.Engine):
    """LiteRT; ``kernels`` is ``xnnpack`` by default."""

    package: ClassVar[str] = "ai-edge-litert"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"kernels": tuple(tflite.RESOLVERS)}

    def parts(self) -> tuple[Any, Any]:
        """Import them; see `tflite.Engine.parts`."""
        from ai_edge_litert import interpreter

        return interpreter.Interpreter, interpreter.OpResolverType
