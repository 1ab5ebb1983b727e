"""tpu-mlir: Sophgo's compiler, whose interpreter computes the integers of its chips BM1684X and CV181x."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import tpu_mlir
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, missing
from backends.device.toolchains import TPU_MLIR


class Engine(OneAtATime):
    """tpu-mlir's interpreter of a network that it compiled: one image at a time, on one thread, without options.

    It computes with the integers, multipliers and shifts that the chip gets. The chip's own instructions, which the
    file holds too, are run on Sophgo's C model of the chip when the file is exported, and have to answer alike.
    """

    formats: ClassVar[tuple[str, ...]] = TPU_MLIR.formats
    package: ClassVar[str] = TPU_MLIR.package
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Load the network behind a compiled file; one from elsewhere, which has none, is a `UserError`."""
        self.checked(options, threads)
        try:
            pymlir = _pymlir()
        except ImportError as error:
            raise missing(self.package, error) from error
        program = tpu_mlir.read(path)
        self.input, self.output = tpu_mlir.ends(path, program)
        pymlir.set_mem_mode("value_mem")  # without it, it answers zeros
        self._network: Any = pymlir.module()
        self._folder = tempfile.TemporaryDirectory()  # constants are read when they are needed
        self._network.load(str(tpu_mlir.placed(program, Path(self._folder.name))))
        self._network.set_progress_silent(True)
        self.facts = {"kernels": f"interpreter {program.chip}", "chip": program.chip}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of one image."""
        name, answer = self._network.input_names[0], self._network.output_names[0]
        self._network.set_tensor(name, np.ascontiguousarray(image), image.shape)
        self._network.invoke(True)  # outputs as reals
        return np.array(self._network.get_tensor(answer), np.float32)


def _pymlir() -> Any:
    """Import the interpreter; its package sets variables and starts programs when imported, so it is not."""
    found = find_spec("tpu_mlir")
    if not found or not found.submodule_search_locations:
        raise ImportError("No module named 'tpu_mlir'")
    folder = str(Path(found.submodule_search_locations[0], "python"))
    sys.path.append(folder)
    try:
        import pymlir
    finally:
        sys.path.remove(folder)
    return pymlir
