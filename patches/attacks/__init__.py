"""Attacks, one a file with one function ``craft``; the file's name is the registry. Importing this imports no torch."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from backends.device.errors import UserError
from patches.patch import CONTROLS

COMMON_OPTIONS = {"bfloat16": False, "compile": False}  # options of every attack on gradients: see patches.acceleration
QUERY_ATTACKS = ("sparse_rs",)  # these ask a device for scores, the others a surrogate for gradients
PER_IMAGE_ATTACKS = ("pgd",)  # these make a patch for each image, and no other
# What an option of ours may be, ends included, or which words.
LIMITS = dict.fromkeys(("steps", "batch", "restarts", "queries", "period"), (1, math.inf))
LIMITS |= dict.fromkeys(("learning_rate", "step_size", "momentum", "smooth", "printable"), (0, math.inf))
LIMITS |= dict.fromkeys(("scale", "brightness", "contrast"), (0, 0.99))
LIMITS |= {"rotation": (0, 180), "within": (0, 1), "square": (0, 1)}
CHOICES = {"loss": ("margin", "cross_entropy")}
Craft = Callable[..., Any]  # craft(problem, *, option=default, ...) -> Tensor (3, p, p) or (n, 3, p, p) in [0, 1]
IMPORTED = "imported"  # the attack that is a file


def names() -> tuple[str, ...]:
    """Names of all attacks: controls, the files of this folder, entry points of the group ``patchbench.attacks``."""
    files = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "controls"))
    others = sorted(set(entry_points(group="patchbench.attacks").names) - {*CONTROLS, *files})
    return (*CONTROLS, *files, *others)


def is_control(name: str) -> bool:
    """Whether this attack needs no surrogate, no images and no target class: one patch a size (and seed) serves all."""
    return name in CONTROLS


def needs_gradients(name: str) -> bool:
    """Whether an attack of ours cannot do with scores alone; a third party's own word comes when it runs."""
    return name not in QUERY_ATTACKS and _is_ours(name)


def check_name(name: str) -> None:
    """A `UserError` naming the nearest attack unless there is one of this name; imports no torch."""
    if name not in names():
        raise UserError(f"no attack named {name!r}; {_nearest(name, names())}")


def load(name: str) -> Craft:
    """The function of an attack by name. Controls have none."""
    check_name(name)
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
    """A `UserError` for an attack that makes a patch for each image alone, and is to make one for all."""
    if name in PER_IMAGE_ATTACKS and not per_image:
        raise UserError(f"attack {name!r} makes a patch for each image: give its [[attack]] per_image = true")


def options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an attack, defaults filled in; one that is unknown or cannot be so is a `UserError`.

    Imports no torch, unless a third party's attack does.
    """
    defaults, ours = _defaults(name), _is_ours(name)
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"attack {name!r} has no option {key!r}; {_nearest(key, tuple(defaults))}")
        kind = type(defaults[key])
        wanted = (int, float) if kind is float else kind
        if defaults[key] is not None and (not isinstance(value, wanted) or isinstance(value, bool) != (kind is bool)):
            raise UserError(f"attack {name!r}, option {key!r}: expected {kind.__name__}, got {value!r}")
        least, most = LIMITS.get(key, (-math.inf, math.inf)) if ours else (-math.inf, math.inf)
        if ours and kind in (int, float) and not (math.isfinite(value) and least <= value <= most):
            span = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
            raise UserError(f"attack {name!r}, option {key!r}: expected a number {span}, got {value!r}")
        if ours and value not in (words := CHOICES.get(key, (value,))):
            raise UserError(f"attack {name!r}, option {key!r}: expected {' or '.join(words)}, got {value!r}")
    return defaults | dict(given)


def _is_ours(name: str) -> bool:
    return (Path(__file__).parent / f"{name}.py").is_file() and not entry_points(group="patchbench.attacks", name=name)


def _defaults(name: str) -> dict[str, Any]:
    """An attack's options with their defaults; those of ours are read from its file, which imports torch."""
    if is_control(name) or name == IMPORTED:
        return {} if is_control(name) else {"file": ""}
    common: dict[str, Any] = {} if name in QUERY_ATTACKS else COMMON_OPTIONS
    if not _is_ours(name):
        parameters = inspect.signature(load(name)).parameters.values()
        return common | {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    body = ast.parse((Path(__file__).parent / f"{name}.py").read_text()).body
    given = next(node.args for node in body if isinstance(node, ast.FunctionDef) and node.name == "craft")
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return common | {argument.arg: ast.literal_eval(default) for argument, default in pairs if default}


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
