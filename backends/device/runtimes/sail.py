"""SAIL: Sophgo's runtime on a board, which runs a compiled file on the TPU of its BM1684X."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import tpu_mlir
from backends.device.errors import UserError
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, missing

FIRST = 0  # of the TPUs


class Engine(OneAtATime):
    """Sophgo's runtime on a board with a BM1684X: one image at a time, without options.

    The TPU runs the compiled part of a file that was exported here; `tpu_mlir` interprets the other. Not tried on a
    board.
    """

    formats: ClassVar[tuple[str, ...]] = ("bmodel",)
    package: ClassVar[str] = "sophon-arm"
    built_from: ClassVar[str] = "github.com/sophgo/sophon-sail"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Hand a compiled file to the TPU; one that it does not take, or a machine without one, is a `UserError`."""
        self.checked(options, threads)
        try:
            from sophon import sail
        except ImportError as error:
            raise missing(self.package, error) from error
        program = tpu_mlir.read(path)
        self.input, self.output = tpu_mlir.ends(path, program)
        try:
            self._engine: Any = sail.Engine(str(path), FIRST, sail.IOMode.SYSIO)
            (self._graph,) = self._engine.get_graph_names()
            (self._name,) = self._engine.get_input_names(self._graph)
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"{path}: {self.package} cannot run it on this machine's TPU: {error}") from error
        self.facts = {"kernels": f"tpu {program.chip}", "chip": program.chip}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of one image."""
        (answer,) = self._engine.process(self._graph, {self._name: np.ascontiguousarray(image)}).values()
        return np.array(answer, np.float32)
