"""A runtime without a network, which returns its input and fails on request: it tests hosts, not artifacts."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError, did_you_mean
from backends.device.runtimes import Option, Tensor
from backends.device.toolchains import OF_FORMATS

OUTPUTS = 1000


def _raise() -> None:
    raise RuntimeError("kernel panic")


def _print() -> None:
    print('{"event": "end"}')
    os.write(1, b'{"event": "case"')
    ctypes.CDLL(None).puts(b"native garbage")


FAULTS: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "raise": _raise,
    "leave": lambda: os._exit(0),
    "hang": lambda: time.sleep(1000),
    "native hang": lambda: ctypes.PyDLL(None).sleep(1000),  # holds the interpreter's lock
    "print": _print,
    "nan": lambda: None,  # these three change what a run does
    "double": lambda: None,
    "scribble": lambda: None,
}


class Engine:
    """Returns the first values of each image as its logits, at most a thousand.

    Option ``fault`` is one of `FAULTS`; it happens in run number ``at``, where 1 is the run while loading, or in
    ``load``. ``milliseconds`` is how long each run sleeps.
    """

    formats: ClassVar[tuple[str, ...]] = ("onnx", "tflite", "pte", *OF_FORMATS)
    package: ClassVar[str] = "numpy"

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Check the options; the file is not read."""
        known: dict[str, Option] = {"fault": "none", "at": 0, "milliseconds": 0}
        if unknown := set(options) - set(known):
            raise UserError(f"unknown option {min(unknown)!r}; {did_you_mean(min(unknown), known)}")
        chosen = known | dict(options)
        if chosen["fault"] not in FAULTS:
            raise UserError(f"option fault = {chosen['fault']!r}: expected one of {', '.join(FAULTS)}")
        self._fault = str(chosen["fault"])
        self._at = chosen["at"]
        self._count = 0
        self._seconds = float(chosen["milliseconds"]) / 1000
        self._threads = threads
        self.input = Tensor((None, None, None, None), np.dtype(np.float32))
        self.output = Tensor((None, None), np.dtype(np.float32))
        if self._at == "load":
            FAULTS[self._fault]()

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the input, flattened and cut; or fail."""
        self._count += 1
        time.sleep(self._seconds)
        logits = x.reshape(len(x), -1)[:, :OUTPUTS].copy()
        if self._at == self._count:
            FAULTS[self._fault]()
            if self._fault == "nan":
                logits[:] = np.nan
            elif self._fault == "double":
                return logits.astype(np.float64)
            elif self._fault == "scribble":
                x[:] = 0
        return logits

    def info(self) -> dict[str, str]:
        """Return numpy's version and the threads asked for."""
        return {"version": np.__version__, "kernels": "dummy", "threads": str(self._threads)}
