"""TFLite Micro: the interpreter and the kernels of microcontrollers, on this CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import tflite_facts
from backends.device.errors import UserError
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, Tensor, axes, missing

ARENA_STEP = 16  # bytes, to which TFLite Micro aligns
MOST_ARENA = 1 << 30


class Engine(OneAtATime):
    """TFLite Micro, with its reference kernels: one image at a time, on one thread, without options.

    ``arena_bytes`` is the smallest tensor arena in which the file loads: the RAM that the network takes. Pointers have
    8 bytes here; where they have 4, it takes a little less.
    """

    formats: ClassVar[tuple[str, ...]] = ("tflite",)
    package: ClassVar[str] = "tflite-micro"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    twins: ClassVar[Mapping[str, str]] = {"reference": "reference"}

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Open an interpreter; a file that it would misread, or has no kernels for, is a `UserError`."""
        self.checked(options, threads)
        try:
            from tflite_micro.python.tflite_micro import runtime
            from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema
        except ImportError as error:
            raise missing(self.package, error) from error
        tflite_facts.read(path, "TFLite Micro")
        content = path.read_bytes()
        self._arena = _sufficient_arena(_checked(path, content, schema), content)
        self._open: Callable[[int], Any] = lambda size: runtime.Interpreter.from_bytes(content, arena_size=size)
        with _native_errors() as said:
            try:
                self._interpreter = self._open(self._arena)
            except Exception as error:  # its own, and those of the schema's classes
                reason = "; ".join(said()) or error
                raise UserError(f"{path}: {self.package} cannot load it: {reason}") from error
        self.input = _tensor(path, self._interpreter.get_input_details(0))
        self.output = _tensor(path, self._interpreter.get_output_details(0))
        if self.input.shape[0] != 1:
            raise UserError(f"{path}: takes {self.input.shape[0]} images at a time, expected 1")
        self.facts = {"kernels": "reference"}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the output for one image."""
        self._interpreter.set_input(image, 0)
        self._interpreter.invoke()
        answer: NDArray[Any] = self._interpreter.get_output(0)
        return answer

    def info(self) -> dict[str, str]:
        """Return version, kernels, threads, and the smallest arena, which takes some twenty loads to find."""
        if "arena_bytes" not in self.facts:
            self.facts["arena_bytes"] = str(self._smallest_arena())
        return super().info()

    def _smallest_arena(self) -> int:
        short, enough = 0, self._arena // ARENA_STEP
        with _native_errors():
            while enough - short > 1:
                middle = (short + enough) // 2
                try:
                    self._open(middle * ARENA_STEP)
                except RuntimeError:
                    short = middle
                else:
                    enough = middle
        return enough * ARENA_STEP


def _checked(path: Path, content: bytes, schema: Any) -> Any:
    """Return the file's model; what TFLite Micro would misread, or has no kernels for, is a `UserError`."""
    try:
        model = schema.Model.GetRootAs(content, 0)
        buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
        weights = {tensor.Type() for tensor in _tensors(model) if not buffers[tensor.Buffer()].DataIsNone()}
        ends = (model.Subgraphs(0).InputsLength(), model.Subgraphs(0).OutputsLength())
    except Exception as error:  # the schema's classes raise what they meet
        raise UserError(f"{path}: no TFLite file, or a damaged one: {error}") from error
    if schema.TensorType.UINT8 in weights:
        raise UserError(
            f"{path}: its weights are uint8, and TFLite Micro's kernels take int8: convert the network again"
        )
    if ends != (1, 1):
        raise UserError(f"{path}: expected one input and one output, got {ends[0]} and {ends[1]}")
    return model


def _tensors(model: Any) -> Iterator[Any]:
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        yield from (graph.Tensors(i) for i in range(graph.TensorsLength()))


def _sufficient_arena(model: Any, content: bytes) -> int:
    """Return a size in bytes that holds all activations at once, and all that describes them."""
    shapes = [t.ShapeAsNumpy() for t in _tensors(model) if t.ShapeLength() and model.Buffers(t.Buffer()).DataIsNone()]
    elements = sum(math.prod(map(int, shape)) for shape in shapes)
    return min(MOST_ARENA, 8 * elements + 4 * len(content) + (1 << 16))


def _tensor(path: Path, details: Mapping[str, Any]) -> Tensor:
    shape, dtype = axes(details["shape"]), np.dtype(details["dtype"])
    scales = details["quantization_parameters"]["scales"]
    if dtype == np.float32:
        return Tensor(shape, dtype)
    if not len(scales) or not scales[0]:
        raise UserError(f"{path}: an input or output is {dtype} without a scale: its values are undefined")
    return Tensor(shape, dtype, float(scales[0]), int(details["quantization_parameters"]["zero_points"][0]))


@contextmanager
def _native_errors() -> Iterator[Callable[[], list[str]]]:
    """Keep what native code prints on standard error, where it says why a file does not load; yield its reader."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)  # a full pipe takes no more, and holds nobody up
    before = os.dup(2)
    os.dup2(writing, 2)

    def said() -> list[str]:
        try:
            return os.read(reading, 1 << 16).decode(errors="replace").split("\n")[:-1]
        except BlockingIOError:
            return []

    try:
        yield said
    finally:
        os.dup2(before, 2)
        for end in (reading, writing, before):
            os.close(end)
