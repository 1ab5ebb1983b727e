"""Defences: what a device does against patches. One per file; a defence's name is its file's name.

A word such as ``jpeg:75`` is a defence and its one setting. Each module of this folder has ``SETTING``, what the
setting is called, and ``SETTINGS``, its values. Most have ``transform(pixels, setting)``: images ``(n, h, w, 3)`` as
the network is to see them, the same bytes on every device, so that their hash can be compared.

A defence that runs the network many times an image has instead

- ``answer(image, classify, setting)``, an `Answer`, where `classify` is the network
- ``VERDICTS``, the reasons for an answer
- ``certified(image, classify, setting)``: whether no patch on this image could change the answer
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.errors import UserError, did_you_mean
from backends.device.names import modules, shown, third_parties

Classify = Callable[[Pixels], NDArray[np.float32]]  # images (n, h, w, 3) to logits (n, classes)


class Answer(NamedTuple):
    """The logits of the pass that answers, float32 ``(classes,)``, why it does, and how many passes it took."""

    logits: NDArray[np.float32]
    verdict: str
    passes: int


class ManyPasses(Protocol):
    """A defence that runs the network many times an image."""

    VERDICTS: tuple[str, ...]
    answer: Callable[[Pixels, Classify, int], Answer]
    certified: Callable[[Pixels, Classify, int], bool]


class Defence(NamedTuple):
    """A defence by name, its setting, and its module."""

    name: str
    setting: int
    module: Any

    @property
    def many_passes(self) -> ManyPasses | None:
        """The module of a defence that runs the network many times an image."""
        return cast(ManyPasses, self.module) if hasattr(self.module, "answer") else None


def parse_defence(word: str) -> Defence:
    """Parse a defence such as ``jpeg:75``; an unknown one is a `UserError`."""
    name, _, text = word.partition(":")
    module = _module(name, word)
    values: range = module.SETTINGS
    for setting in values:
        if text == str(setting):
            return Defence(name, setting, module)
    steps = f" in steps of {values.step}" if values.step > 1 else ""
    raise UserError(f"defence {shown(word)}: expected {name}:{module.SETTING}, from {values[0]} to {values[-1]}{steps}")


def many_passes(word: str) -> ManyPasses | None:
    """Return the module of a defence that runs the network many times an image; None for others, and for no defence."""
    return parse_defence(word).many_passes if word else None


def defend(word: str, pixels: Pixels) -> Pixels:
    """Return images ``(n, h, w, 3)`` as a defence lets the network see them: as they are, if it runs it many times."""
    defence = parse_defence(word)
    if defence.many_passes:
        return pixels
    seen: Pixels = defence.module.transform(pixels, defence.setting)
    return seen


def starts(length: int, side: int, stride: int) -> list[int]:
    """Return where windows begin along an axis: every `stride` pixels, and the last at the border."""
    last = max(length - side, 0)
    return [*range(0, last, stride), last]


def _module(name: str, word: str) -> Any:
    """Find a file of this folder, else a module that is an entry point of group ``patchbench.defences``."""
    ours = modules(__path__)
    if name in ours:
        return importlib.import_module(f"{__name__}.{name}")
    for entry in third_parties("patchbench.defences"):
        if entry.name == name:
            return entry.load()
    raise UserError(f"defence {shown(word)}: no defence named {shown(name)}; {did_you_mean(name, ours)}")
