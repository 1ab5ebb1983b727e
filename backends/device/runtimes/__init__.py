"""Runtimes, one a file; the file's name is the registry."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError, did_you_mean
from backends.device.quantize import dequantize, quantize

Option = str | int | float | bool


class Tensor(NamedTuple):
    """A file's input or output: its shape, the batch first, None for an axis that takes any number; and its dtype.

    Integers stand for ``(integer - zero_point) * scale``.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    scale: float = 1.0
    zero_point: int = 0


class Runtime(Protocol):
    """An engine that executes artifacts. A module of this folder has one class ``Engine`` of this shape.

    Importing the module must not import the runtime's package: `load` does, so that `formats` and `package` can be
    asked where the package is missing. It knows nothing of preprocessing and quantizing: `prepare` and `real` below do
    that for every runtime, by what `input` and `output` say.
    """

    formats: ClassVar[tuple[str, ...]]
    package: ClassVar[str]  # the distribution to install, as pip names it
    input: Tensor  # of the file; these two after `load`
    output: Tensor

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Opens the file with exactly these options; an unknown option, or one not in force, is a `UserError`."""

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """The file's own outputs ``(n, outputs)`` for a batch of its own inputs; `x` is left untouched.

        What it gives is the caller's: a later run does not write into it.
        """

    def info(self) -> dict[str, str]:
        """What is in force, after `load`: ``version``, ``kernels``, ``threads``, and what else the runtime tells."""


def engine(name: str) -> type[Runtime]:
    """The class of a runtime by name: a file of this folder, else an entry point of group ``patchbench.runtimes``."""
    if name.isidentifier() and find_spec(f"{__name__}.{name}"):
        found: type[Runtime] = importlib.import_module(f"{__name__}.{name}").Engine
        return found
    for entry in entry_points(group="patchbench.runtimes", name=name):
        third_party: type[Runtime] = entry.load()
        return third_party
    ours = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__")
    raise UserError(f"no runtime named {name!r}; {did_you_mean(name, ours)}")


def check_target_options(name: str, options: Mapping[str, Option]) -> None:
    """A `UserError` for options that a runtime does not have, where its class says which it has (``options``)."""
    known = vars(engine(name)).get("options")  # its own alone: a class that builds on another may take more
    if isinstance(known, Mapping):
        check_options(options, known)


def check_options(options: Mapping[str, Option], known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The choice made for each known option, its first value by default; any other key or value is a `UserError`."""
    for key, value in options.items():
        if key not in known:
            raise UserError(f"unknown option {key!r}; {did_you_mean(key, known)}")
        if value not in known[key]:
            raise UserError(f"option {key} = {value!r}: expected one of {', '.join(known[key])}")
    return {key: str(options.get(key, values[0])) for key, values in known.items()}


def axes(shape: Sequence[object]) -> tuple[int | None, ...]:
    """A shape as `Tensor` has it: what is no positive number takes any."""
    return tuple(int(axis) if isinstance(axis, int | np.integer) and axis > 0 else None for axis in shape)


def prepare(tensor: Tensor, x: NDArray[np.float32], path: Path) -> NDArray[Any]:
    """A file's own input for preprocessed images in its layout: quantized, where it takes integers.

    Any number of images, also for a file that takes one; `x` is left untouched, and one of another shape is a
    `UserError` that names `path`. Like the preprocessing, this is no part of a latency.
    """
    if x.dtype != np.float32:
        raise UserError(f"{path}: expected float32 inputs, got {x.dtype}")
    _, *fixed = tensor.shape
    if len(fixed) != x.ndim - 1 or any(axis not in (None, n) for axis, n in zip(fixed, x.shape[1:], strict=True)):
        raise UserError(
            f"{path}: takes inputs {[axis or 'any' for axis in tensor.shape]}, got {list(x.shape)}; "
            "check input_size and preproc.layout of the artifact"
        )
    return x if tensor.dtype == np.float32 else quantize(x, tensor.scale, tensor.zero_point, tensor.dtype)


def real(tensor: Tensor, raw: NDArray[Any]) -> NDArray[np.float32]:
    """The float32 values that a file's own outputs stand for."""
    return raw if tensor.dtype == np.float32 else dequantize(raw, tensor.scale, tensor.zero_point)


def missing(package: str, error: ImportError) -> UserError:
    """Says what to install for a runtime whose package cannot be imported."""
    return UserError(f"{package} cannot be imported ({error}): pip install {package}")
