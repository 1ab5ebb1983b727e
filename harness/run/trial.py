"""Try a file's runtime in a process of its own: a damaged file may end the process that opens it.

Run as a program, it runs a file on zeros: ``python -m harness.run.trial RUNTIME FILE [KERNELS ...]``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from backends.device.errors import UserError
from backends.device.runtimes import Option, engine
from backends.hosts.local import ROOT

SECONDS = 600.0
RUNTIMES = {".onnx": "onnxruntime", ".pte": "executorch", ".tflite": "litert"}  # whose kernels twins follow


def require_survived(file: Path, kernels: Sequence[str | None] = (None,)) -> None:
    """Run a ``.tflite``, ``.onnx`` or ``.pte`` file once on each of these kernels, by default the runtime's own.

    A crash is a `UserError`. Any other fault is left to whoever opens the file then.
    """
    name = RUNTIMES.get(file.suffix, "litert")
    chosen = [one or "" for one in kernels] if name == "litert" else [""]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # an empty part is the folder here
    command = [sys.executable, "-m", "harness.run.trial", name, str(file.resolve()), *chosen]
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{file}: {name} needs more than {SECONDS:.0f} s for one image") from error
    if done.returncode < 0:
        begun = done.stdout.split()
        on = f" ({begun[-1]})" if begun else ""
        raise UserError(f"{file}: {name}{on} crashes on it: {signal.Signals(-done.returncode).name}")


def _run(name: str, file: Path, kernels: str) -> None:
    options: Mapping[str, Option] = {"kernels": kernels} if kernels else {}
    runtime = engine(name)()
    runtime.load(file, options, 1)
    runtime.run(np.zeros([length or 1 for length in runtime.input.shape], runtime.input.dtype))


if __name__ == "__main__":
    for kernels in sys.argv[3:]:
        print(kernels, flush=True)
        with suppress(Exception):
            _run(sys.argv[1], Path(sys.argv[2]), kernels)
