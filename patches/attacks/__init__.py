"""Attacks, one a file with one function ``craft``; the file's name is the registry. Importing this imports no torch."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.schema import CONTROLS, UserError

OF_ALL = {"bfloat16": False, "compile": False}  # options of every attack on gradients: see patches.faster
ASKS = ("sparse_rs",)  # these ask a device for scores, the others a surrogate for gradients
Craft = Callable[..., Any]  # craft(problem, *, option=default, ...) -> Tensor (3, p, p) or (n, 3, p, p) in [0, 1]
IMPORTED = "imported"  # the attack that is a file


def known() -> tuple[str, ...]:
    """Names of all attacks: controls, the files of this folder, entry points of the group ``patchbench.attacks``."""
    files = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "controls"))
    others = sorted(set(entry_points(group="patchbench.attacks").names) - {*CONTROLS, *files})
    return (*CONTROLS, *files, *others)


def is_control(name: str) -> bool:
    """Whether this attack needs no surrogate, no images and no target class: one patch a size (and seed) serves all."""
    return name in CONTROLS


def needs_gradients(name: str) -> bool:
    """Whether an attack of ours cannot do with scores alone; a third party's own word comes when it runs."""
    return name not in ASKS and (Path(__file__).parent / f"{name}.py").is_file()


def check(name: str) -> None:
    """A `UserError` naming the nearest attack unless there is one of this name; imports no torch."""
    if name not in known():
        raise UserError(f"no attack named {name!r}; {_nearest(name, known())}")


def find(name: str) -> Craft:
    """The function of an attack by name. Controls have none."""
    check(name)
    if is_control(name):
        raise UserError(f"{name!r} is a control and is not crafted; patches.control makes it")
    if name == IMPORTED:
        raise UserError(f"{name!r} is read from a file and is not crafted; patches.attacks.imported reads it")
    for entry in entry_points(group="patchbench.attacks", name=name):
        third_party: Craft = entry.load()
        return third_party
    ours: Craft = importlib.import_module(f"{__name__}.{name}").craft
    return ours


def options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an attack, defaults filled in; an unknown one, or one of the wrong type, is a `UserError`."""
    if is_control(name) or name == IMPORTED:
        defaults: dict[str, Any] = {} if is_control(name) else {"file": ""}
    else:
        parameters = inspect.signature(find(name)).parameters.values()
        common = {} if name in ASKS else OF_ALL
        defaults = common | {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"attack {name!r} has no option {key!r}; {_nearest(key, tuple(defaults))}")
        kind = type(defaults[key])
        wanted = (int, float) if kind is float else kind
        if defaults[key] is not None and (not isinstance(value, wanted) or isinstance(value, bool) != (kind is bool)):
            raise UserError(f"attack {name!r}, option {key!r}: expected {kind.__name__}, got {value!r}")
    return defaults | dict(given)


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
