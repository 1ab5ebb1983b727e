"""RKNN Lite: Rockchip's runtime on a board, which runs a compiled file on the NPU of its RK3588."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import rknn
from backends.device.errors import UserError
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, missing
from backends.device.toolchains import RKNN


class Engine(OneAtATime):
    """Rockchip's runtime on a board with an RK3588: one image at a time, without options.

    The NPU runs the compiled part of a file that was exported here; `rknn` simulates the other. Not tried on a board.
    """

    formats: ClassVar[tuple[str, ...]] = RKNN.formats
    package: ClassVar[str] = "rknn-toolkit-lite2"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Hand a compiled file to the NPU; one that it does not take, or a machine without one, is a `UserError`."""
        self.checked(options, threads)
        try:
            from rknnlite.api import RKNNLite
        except ImportError as error:
            raise missing(self.package, error) from error
        _, build = rknn.read(path)
        self.input, self.output = rknn.ends(path, build)
        self._kit: Any = RKNNLite()
        for step, code in (("load", self._kit.load_rknn(str(path))), ("start", self._kit.init_runtime())):
            if code != 0:
                raise UserError(f"{path}: {self.package} cannot {step} it on this machine's NPU: it failed with {code}")
        self.facts = {"kernels": f"npu {rknn.CHIP}", "chip": rknn.CHIP}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of one image, which the runtime takes with its channels last."""
        (answer,) = self._kit.inference(inputs=[np.ascontiguousarray(image.transpose(0, 2, 3, 1))])
        return np.array(answer, np.float32)
