"""Attacks: one file each with a function ``craft``; the file's name is the registry. Imports no torch."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from backends.device.errors import UserError, did_you_mean
from patches.patch import CONTROLS

Options = dict[str, Any]  # by name: bool, int, float or str
COMMON_OPTIONS: Options = {"bfloat16": False, "compile": False}  # of every gradient attack: see patches.acceleration
QUERY_ATTACKS = ("sparse_rs",)  # these query a device for scores, the others need a surrogate's gradients
PER_IMAGE_ATTACKS = ("pgd",)  # these make one patch per image and no universal one
# The range of an option of ours, ends included, or its choices.
LIMITS = dict.fromkeys(("steps", "batch", "restarts", "queries", "period"), (1, math.inf))
LIMITS |= dict.fromkeys(("learning_rate", "step_size", "momentum", "smooth", "printable"), (0, math.inf))
LIMITS |= dict.fromkeys(("scale", "brightness", "contrast"), (0, 0.99))
LIMITS |= {"rotation": (0, 180), "within": (0, 1), "square": (0, 1)}
NEEDED = {"within": "disguise"}  # an option of ours, and the one without which it changes nothing
CHOICES = {"loss": ("margin", "cross_entropy")}
Craft = Callable[..., Any]  # craft(problem, *, option=default, ...) -> Tensor (3, p, p) or (n, 3, p, p) in [0, 1]
IMPORTED = "imported"  # the attack that is a file


def names() -> tuple[str, ...]:
    """Return all attacks: controls, the files of this folder, entry points of the group ``patchbench.attacks``."""
    files = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "controls"))
    others = sorted(set(entry_points(group="patchbench.attacks").names) - {*CONTROLS, *files})
    return (*CONTROLS, *files, *others)


def is_control(name: str) -> bool:
    """Whether an attack needs no surrogate, images or target class: one patch per size and seed serves all."""
    return name in CONTROLS


def needs_gradients(name: str) -> bool:
    """Whether an attack of ours needs gradients; a third party's own error comes when it runs."""
    return name not in QUERY_ATTACKS and _is_ours(name)


def check_attack(name: str) -> None:
    """Raise a `UserError` that names the nearest attack, unless this is one."""
    if name not in names():
        raise UserError(f"no attack named {name!r}; {did_you_mean(name, names())}")


def load(name: str) -> Craft:
    """Import the function of an attack; controls have none."""
    check_attack(name)
    if is_control(name):
        raise UserError(f"{name!r} is a control and is not crafted; patches.attacks.controls makes it")
    if name == IMPORTED:
        raise UserError(f"{name!r} is read from a file and is not crafted; patches.attacks.imported reads it")
    for entry in entry_points(group="patchbench.attacks", name=name):
        third_party: Craft = entry.load()
        return third_party
    ours: Craft = importlib.import_module(f"{__name__}.{name}").craft
    return ours


def check_per_image(name: str, per_image: bool) -> None:
    """Raise a `UserError` where a universal patch is asked of an attack that makes none."""
    if name in PER_IMAGE_ATTACKS and not per_image:
        raise UserError(f"attack {name!r} makes a patch for each image: give it per_image = true")


def check_best(name: str, per_image: bool) -> None:
    """Raise a `UserError` where an attack that queries a device is asked for the best place of a universal patch."""
    if name in QUERY_ATTACKS and not per_image:
        raise UserError(
            f"attack {name!r} finds places only for per-image patches: give its [[attack]] per_image = true, "
            "or another placement than best"
        )


def options(name: str, given: Mapping[str, Any]) -> Options:
    """Return all options of an attack with defaults filled in; an unknown one or a bad value is a `UserError`.

    Imports no torch, unless a third party's attack does.
    """
    defaults = _defaults(name)
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"attack {name!r} has no option {key!r}; {did_you_mean(key, defaults)}")
        where = f"attack {name!r}, option {key!r}"
        _check_type(where, value, defaults[key])
        if _is_ours(name):
            _check_value(where, key, value, defaults[key])
            if (needed := NEEDED.get(key)) and not given.get(needed):
                raise UserError(f"{where}: it does nothing without the option {needed!r}")
    return defaults | dict(given)


def _check_type(where: str, value: object, default: object) -> None:
    if default is None:
        return
    kind = type(default)
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or isinstance(value, bool) != (kind is bool):
        raise UserError(f"{where}: expected {kind.__name__}, got {value!r}")


def _check_value(where: str, key: str, value: Any, default: object) -> None:
    if type(default) in (int, float):
        low, high = LIMITS.get(key, (-math.inf, math.inf))
        if not (math.isfinite(value) and low <= value <= high):
            limits = f"from {low} to {high}" if high < math.inf else f"of at least {low}"
            raise UserError(f"{where}: expected a number {limits}, got {value!r}")
    if key in CHOICES and value not in CHOICES[key]:
        raise UserError(f"{where}: expected {' or '.join(CHOICES[key])}, got {value!r}")


def _is_ours(name: str) -> bool:
    return (Path(__file__).parent / f"{name}.py").is_file() and not entry_points(group="patchbench.attacks", name=name)


def _defaults(name: str) -> Options:
    """Return an attack's options with their defaults; ours are read from the source, since importing it needs torch."""
    if is_control(name):
        return {}
    if name == IMPORTED:
        return {"file": ""}
    common = {} if name in QUERY_ATTACKS else COMMON_OPTIONS
    if not _is_ours(name):
        parameters = inspect.signature(load(name)).parameters.values()
        return common | {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    body = ast.parse((Path(__file__).parent / f"{name}.py").read_text()).body
    given = next(node.args for node in body if isinstance(node, ast.FunctionDef) and node.name == "craft")
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return common | {argument.arg: ast.literal_eval(default) for argument, default in pairs if default}
