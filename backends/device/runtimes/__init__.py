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

from backends.device.errors import UserError

Option = str | int | float | bool


class Outputs(NamedTuple):
    """What a network gave for a batch: float32 ``(n, outputs)``, and the raw integers where its output is integer."""

    logits: NDArray[np.float32]
    integers: NDArray[np.generic] | None = None


class Runtime(Protocol):
    """An engine that executes artifacts. A module of this folder has one class ``Engine`` of this shape.

    Importing the module must not import the runtime's package: `load` does, so that `formats` and `package` can be
    asked where the package is missing.
    """

    formats: ClassVar[tuple[str, ...]]
    package: ClassVar[str]  # the distribution to install, as pip names it

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Opens the file with exactly these options; an unknown option, or one not in force, is a `UserError`."""

    def prepare(self, x: NDArray[np.float32]) -> NDArray[Any]:
        """The file's own input for preprocessed images in its layout: quantized, where it takes integers.

        Any number of images; `x` is left untouched, and one of another shape is a `UserError`. Like the preprocessing,
        this is no part of a latency.
        """

    def run(self, x: NDArray[Any]) -> Outputs:
        """Outputs for a batch of what `prepare` gave; `x` is left untouched."""

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
    raise UserError(f"no runtime named {name!r}; there are {', '.join(ours)}")


def check_options(options: Mapping[str, Option], known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The choice made for each known option, its first value by default; any other key or value is a `UserError`."""
    for key, value in options.items():
        if key not in known:
            raise UserError(f"unknown option {key!r}; there are {', '.join(known) or 'none'}")
        if value not in known[key]:
            raise UserError(f"option {key} = {value!r}: expected one of {', '.join(known[key])}")
    return {key: str(options.get(key, values[0])) for key, values in known.items()}


def check_input(path: Path, x: NDArray[np.float32], shape: Sequence[object]) -> None:
    """Holds preprocessed images against the shape of a file's input; an axis that is no positive number takes any.

    The first axis takes any number: a file for one image is given one at a time.
    """
    if x.dtype != np.float32:
        raise UserError(f"{path}: expected float32 inputs, got {x.dtype}")
    fixed = [axis if isinstance(axis, int | np.integer) and axis > 0 else None for axis in shape]
    if len(fixed) != x.ndim or any(axis not in (None, n) for axis, n in zip(fixed[1:], x.shape[1:], strict=True)):
        raise UserError(
            f"{path}: takes inputs {[axis or 'any' for axis in fixed]}, got {list(x.shape)}; "
            "check input_size and preproc.layout of the artifact"
        )


def missing(package: str, error: ImportError) -> UserError:
    """Says what to install for a runtime whose package cannot be imported."""
    return UserError(f"{package} cannot be imported ({error}): pip install {package}")
