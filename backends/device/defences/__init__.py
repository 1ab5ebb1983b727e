"""Defences: what a device does against patches. One per file; a defence's name is its file's name.

A word such as ``jpeg:75`` is a defence and its one setting. Each module of this folder has ``SETTING``, what the
setting is called, ``SETTINGS``, its values, and ``transform(pixels, setting)``: images ``(n, h, w, 3)`` as the network
is to see them. It gives the same bytes on every device, so that their hash can be compared.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

from backends.device.artifact import Pixels
from backends.device.errors import UserError, did_you_mean
from backends.device.names import modules, shown, third_parties


class Module(Protocol):
    """What each module of this folder has."""

    SETTING: str
    SETTINGS: range
    transform: Callable[[Pixels, int], Pixels]


class Defence(NamedTuple):
    """A defence by name, its setting, and the module that does it."""

    name: str
    setting: int
    module: Module


def parse_defence(word: str) -> Defence:
    """Parse a defence such as ``jpeg:75``; an unknown one is a `UserError`."""
    name, _, text = word.partition(":")
    module = _module(name, word)
    values = module.SETTINGS
    for setting in values:
        if text == str(setting):
            return Defence(name, setting, module)
    steps = f" in steps of {values.step}" if values.step > 1 else ""
    raise UserError(f"defence {shown(word)}: expected {name}:{module.SETTING}, from {values[0]} to {values[-1]}{steps}")


def defend(word: str, pixels: Pixels) -> Pixels:
    """Return images ``(n, h, w, 3)`` as a defence lets the network see them."""
    defence = parse_defence(word)
    return defence.module.transform(pixels, defence.setting)


def _module(name: str, word: str) -> Module:
    """Find a file of this folder, else a module that is an entry point of group ``patchbench.defences``."""
    ours = modules(__path__)
    if name in ours:
        return cast(Module, importlib.import_module(f"{__name__}.{name}"))
    for entry in third_parties("patchbench.defences"):
        if entry.name == name:
            return cast(Module, entry.load())
    raise UserError(f"defence {shown(word)}: no defence named {shown(name)}; {did_you_mean(name, ours)}")
