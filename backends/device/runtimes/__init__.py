"""Runtimes, one per file; a runtime's name is its file's name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError, did_you_mean
from backends.device.names import modules, shown, third_parties
from backends.device.protocol import Option
from backends.device.quantize import dequantize, quantize

__all__ = ["Option", "Runtime", "Tensor", "axes", "check_options", "check_target_options", "engine", "missing"]
__all__ += ["prepare", "real"]


class Tensor(NamedTuple):
    """A file's input or output: its shape, batch first, None for a dynamic axis; and its dtype.

    Integers stand for ``(integer - zero_point) * scale``.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    scale: float = 1.0
    zero_point: int = 0


class Runtime(Protocol):
    """An engine that executes artifacts. Each module of this folder has one class ``Engine`` with this interface.

    Importing the module must not import the runtime's package: `load` does, so that `formats` and `package` can be
    read where the package is missing. It does no preprocessing and no quantization: `prepare` and `real` below do that
    for every runtime, from its `input` and `output`.

    A class may also have:

    - ``options``, a mapping from each option to its values, the default first: suites are checked before they run
    - ``one_thread = True``: it is never timed on several threads
    - ``integers_only = True``: of the files of its formats it takes those alone that are quantized
    - ``twins``, a mapping from ``kernels`` in force to those of the twin that follows them, None for the default: what
      it answers is held against that twin
    - ``brings``, the packages that its own needs, of those that a device has no use for else, such as torch
    - ``built_from``, where a package comes from that pip finds nowhere: an address
    - ``saturating``, a mapping from the signatures whose sums saturate on an x86 with AVX2 and no VNNI to what to do
    """

    formats: ClassVar[tuple[str, ...]]
    package: ClassVar[str]  # the distribution to install, as pip names it
    input: Tensor  # of the file; both are set by `load`
    output: Tensor

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Open the file with exactly these options; an unknown option, or one not in force, is a `UserError`."""

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the file's own outputs ``(n, outputs)`` for a batch of its own inputs; `x` is not modified.

        The result belongs to the caller: a later run does not write into it.
        """

    def info(self) -> dict[str, str]:
        """Return what is in force after `load`: ``version``, ``kernels``, ``threads``, and other facts."""


def engine(name: str) -> type[Runtime]:
    """Find a runtime's class: a file of this folder, else an entry point of group ``patchbench.runtimes``."""
    ours = modules(__path__)
    if name in ours:
        found: type[Runtime] = importlib.import_module(f"{__name__}.{name}").Engine
        return found
    for entry in third_parties("patchbench.runtimes"):
        if entry.name == name:
            third_party: type[Runtime] = entry.load()
            return third_party
    raise UserError(f"no runtime named {shown(name)}; {did_you_mean(name, ours)}")


def check_target_options(name: str, options: Mapping[str, Option]) -> None:
    """Raise a `UserError` for options that a runtime does not have, where its class lists them (``options``)."""
    known = vars(engine(name)).get("options")  # not inherited: a subclass may take more
    if isinstance(known, Mapping):
        check_options(options, known)


def check_options(options: Mapping[str, Option], known: Mapping[str, tuple[str, ...] | range]) -> dict[str, str]:
    """Return the value of each known option, by default its first; another key or value is a `UserError`."""
    for key, value in options.items():
        if key not in known:
            raise UserError(f"unknown option {key!r}; {did_you_mean(key, known)}")
        if isinstance(value, (bool, float)) or value not in known[key]:
            raise UserError(f"option {key} = {value!r}: expected {_expected(known[key])}")
    return {key: str(options.get(key, values[0])) for key, values in known.items()}


def _expected(values: tuple[str, ...] | range) -> str:
    return f"{values[0]} to {values[-1]}" if isinstance(values, range) else f"one of {', '.join(values)}"


def axes(shape: Sequence[object]) -> tuple[int | None, ...]:
    """Return a shape as in `Tensor`: whatever is not a positive number is a dynamic axis."""
    return tuple(int(axis) if isinstance(axis, (int, np.integer)) and axis > 0 else None for axis in shape)


def prepare(tensor: Tensor, x: NDArray[np.float32], path: Path) -> NDArray[Any]:
    """Return a file's own input for preprocessed images: quantized, where it takes integers.

    The number of images is free, even for a file that takes one at a time. `x` is not modified; another shape is a
    `UserError` that names `path`. Not part of a latency.
    """
    if x.dtype != np.float32:
        raise UserError(f"{path}: expected float32 inputs, got {x.dtype}")
    _, *fixed = tensor.shape
    if len(fixed) != x.ndim - 1 or any(axis not in (None, n) for axis, n in zip(fixed, x.shape[1:])):
        raise UserError(
            f"{path}: takes inputs {[axis or 'any' for axis in tensor.shape]}, got {list(x.shape)}; "
            "check input_size and preproc.layout of the artifact"
        )
    return x if tensor.dtype == np.float32 else quantize(x, tensor.scale, tensor.zero_point, tensor.dtype)


def real(tensor: Tensor, raw: NDArray[Any]) -> NDArray[np.float32]:
    """Return the real values of a file's own outputs, float32."""
    return raw if tensor.dtype == np.float32 else dequantize(raw, tensor.scale, tensor.zero_point)


def missing(package: str, error: ImportError) -> UserError:
    """Return the error for a runtime whose package cannot be imported."""
    return UserError(f"{package} cannot be imported ({error}): pip install {package}")
