"""nncase: the simulator of Kendryte's K230, which runs the chip's own instructions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.files import working_in
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, Tensor, missing
from backends.device.toolchains import NNCASE


class Engine(OneAtATime):
    """Kendryte's simulator of a K230: one image at a time, on one thread, without options.

    It takes any array of as many bytes without a word, and starts a program for each part of the network.
    """

    formats: ClassVar[tuple[str, ...]] = NNCASE.formats
    package: ClassVar[str] = NNCASE.package
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Load a compiled file; one that the simulator cannot read is a `UserError`."""
        self.checked(options, threads)
        try:
            import _nncase  # what nncase itself adds is the compiler, which needs .NET
        except ImportError as error:
            raise missing(self.package, error) from error
        programs = str(Path(_nncase.__file__).parent)
        os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
        self._folder = tempfile.TemporaryDirectory()  # where it leaves what it hands to its program
        self._tensor = _nncase.RuntimeTensor.from_numpy
        self._chip: Any = _nncase.Simulator()
        try:
            self._chip.load_model(path.read_bytes())
            ends = [self._chip.inputs_size, self._chip.outputs_size]
            given, wanted = tuple(self._chip.get_input_shape(0)), tuple(self._chip.get_output_shape(0))
        except RuntimeError as error:
            raise UserError(f"{path}: {self.package}'s simulator cannot load it: {error}") from error
        if ends != [1, 1] or len(given) != 4 or given[0] != 1 or wanted[0] != 1:
            raise UserError(f"{path}: expected one image in, one vector out, got {list(given)} and {list(wanted)}")
        dtype = np.dtype(np.float32)
        self.input, self.output = Tensor(given, dtype), Tensor(wanted, dtype)
        self.facts = {"kernels": "simulator k230", "chip": "k230"}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of one image."""
        given = np.ascontiguousarray(image, np.float32)  # to be kept: the simulator does not copy it
        with working_in(Path(self._folder.name)):
            self._chip.set_input_tensor(0, self._tensor(given))
            self._chip.run()
            return np.array(self._chip.get_output_tensor(0).to_numpy(), np.float32)
