"""ExecuTorch on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import pte
from backends.device.errors import UserError
from backends.device.runtimes import Option, Tensor, axes, check_options, missing

DELEGATES = {"XnnpackBackend": "xnnpack"}  # by ExecuTorch's name, ours
MOST_THREADS = 1024
TORCH = "torch==2.13.0"  # its wheel is built for this one, and fails on tensors of others


class Engine:
    """ExecuTorch's runtime in Python, without options: a file itself says which delegates run it.

    What a file leaves outside its delegates runs on ExecuTorch's portable kernels. ``torch`` comes with it, as its
    tensors are torch's.
    """

    formats: ClassVar[tuple[str, ...]] = ("pte",)
    package: ClassVar[str] = "executorch"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    brings: ClassVar[tuple[str, ...]] = ("torch",)
    twins: ClassVar[Mapping[str, None]] = {"xnnpack": None}

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Load the method ``forward``, on so many threads; a file that asks for another delegate is a `UserError`."""
        check_options(options, Engine.options)
        if not 1 <= threads <= MOST_THREADS:
            raise UserError(f"{self.package} takes 1 to {MOST_THREADS} threads, asked for {threads}")
        try:
            import torch
            from executorch.extension.pybindings import _C as runtime  # the public module imports the exporter too
        except ImportError as error:
            raise missing(f"{self.package} {TORCH}", error) from error
        program = pte.read(path)
        self.input, self.output = _ends(path, program)
        delegates = Counter(call.name for call in program.calls if call.delegate is not None)
        if unknown := delegates.keys() - DELEGATES.keys():
            raise UserError(
                f"{path}: is lowered for {', '.join(sorted(unknown))}, which this CPU does not run; expected "
                f"{', '.join(DELEGATES)}"
            )
        runtime._unsafe_reset_threadpool(threads)
        if runtime._threadpool_get_thread_count() != threads:
            raise UserError(
                f"{self.package} runs on {runtime._threadpool_get_thread_count()} threads, asked for {threads}"
            )
        try:
            self._program: Any = runtime._load_program(
                str(path), program_verification=runtime.Verification.InternalConsistency
            )
            self._method: Any = self._program.load_method("forward")
        except RuntimeError as error:
            raise UserError(f"{path}: {self.package} cannot load it: {error}") from error
        self._tensor: Any = torch.from_numpy
        kernels = Counter(call.name for call in program.calls if call.delegate is None)
        self._info = {
            "version": version(self.package),
            "kernels": _kernels(delegates, kernels),
            "delegates": str(sum(delegates.values())),
            "operators": _counts(Counter(call.name for call in program.calls)),
            "threads": str(threads),
            "batching": "one at a time",
            "torch": torch.__version__,
        }

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run a batch, one image after the other."""
        if len(x) != 1:
            return np.concatenate([self.run(x[i : i + 1]) for i in range(len(x))])
        # ExecuTorch reads memory in order, whatever the strides; torch warns of memory that it may not write to
        flags = x.flags
        given = x if flags.writeable and flags.c_contiguous else x.copy(order="C")
        found: NDArray[Any] = self._method.call((self._tensor(given),))[0].numpy()
        return found if found.ndim == 2 else found.reshape(1, -1)

    def info(self) -> dict[str, str]:
        """Return versions, kernels, threads, and what the file calls: delegates, and kernels outside them."""
        return self._info


def _ends(path: Path, program: pte.Program) -> tuple[Tensor, Tensor]:
    ends = (program.inputs, program.outputs)
    if any(len(numbers) != 1 for numbers in ends):
        raise UserError(f"{path}: expected one input and one output, got {len(ends[0])} and {len(ends[1])}")
    tensors = []
    for (number,) in ends:
        value = program.values.get(number)
        if value is None or value.dtype != "float32":
            raise UserError(f"{path}: takes or gives {value.dtype if value else 'no tensor'}, expected float32")
        tensors.append(Tensor(axes(value.shape), np.dtype(np.float32)))
    if tensors[0].shape[0] != 1:
        raise UserError(f"{path}: takes {tensors[0].shape[0]} images at a time, expected 1")
    return tensors[0], tensors[1]


def _kernels(delegates: Counter[str], kernels: Counter[str]) -> str:
    """Return ``xnnpack``, ``portable``, or ``xnnpack (portable: 1 aten::mean)``."""
    if not delegates:
        return "portable"
    names = ", ".join(DELEGATES[name] for name in sorted(delegates))
    return f"{names} (portable: {_counts(kernels)})" if kernels else names


def _counts(words: Counter[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in words.most_common())
