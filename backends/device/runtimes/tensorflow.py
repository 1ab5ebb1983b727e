"""TensorFlow Lite's interpreter inside TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from backends.device import tflite


class Engine(tflite.Engine):
    """TensorFlow's ``tf.lite.Interpreter``; ``kernels`` is ``xnnpack`` by default."""

    package: ClassVar[str] = "tensorflow-cpu"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"kernels": tuple(tflite.RESOLVERS)}

    def parts(self) -> tuple[Any, Any]:
        """Import them; see `tflite.Engine.parts`."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # or it logs the CPU's features at import
        from tensorflow import lite

        return lite.Interpreter, lite.experimental.OpResolverType
