"""Runtimes, one a file; the file's name is the registry."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

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

    def run(self, x: NDArray[np.float32]) -> Outputs:
        """Outputs for a batch of preprocessed inputs in the layout of the file; `x` is left untouched."""

    def info(self) -> dict[str, str]:
        """What is in force, after `load`: version, provider or kernels, optimisation level."""


def engine(name: str) -> type[Runtime]:
    """The class of a runtime by name: a file of this folder, else an entry point of the group ``patchbench.runtimes``."""
    if name.isidentifier() and find_spec(f"{__name__}.{name}"):
        found: type[Runtime] = importlib.import_module(f"{__name__}.{name}").Engine
        return found
    for entry in entry_points(group="patchbench.runtimes", name=name):
        third_party: type[Runtime] = entry.load()
        return third_party
    ours = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__")
    raise UserError(f"no runtime named {name!r}; there are {', '.join(ours)}")
