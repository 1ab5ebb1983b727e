"""Runtimes that answer one image at a time, on one thread: what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Option, check_options


class OneAtATime:
    """A runtime that answers one image after the other, on one thread.

    A subclass gives the package, its options and `answer`; its ``load`` begins with `checked` and sets ``facts``, which
    are ``kernels`` and whatever else is in force.
    """

    package: ClassVar[str]
    options: ClassVar[Mapping[str, tuple[str, ...]]]
    one_thread: ClassVar[bool] = True
    facts: dict[str, str]

    def checked(self, options: Mapping[str, Option], threads: int) -> dict[str, str]:
        """Return every option's value; an unknown one, and more threads than one, is a `UserError`."""
        chosen = check_options(options, self.options)
        if threads != 1:
            raise UserError(f"{self.package} computes on one thread, asked for {threads}: set threads to 1")
        return chosen

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the file's own output, of any shape, for a batch of one; it belongs to the caller."""
        raise NotImplementedError

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run a batch, one image after the other; integers where the file's output is integer."""
        return np.concatenate([self.answer(x[i : i + 1]).reshape(1, -1) for i in range(len(x))])

    def info(self) -> dict[str, str]:
        """Return what is in force: the package's version, kernels, threads, and other facts."""
        return {"version": version(self.package)} | self.facts | {"threads": "1", "batching": "one at a time"}
