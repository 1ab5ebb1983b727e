"""Hold parsed JSON against a type and build its value: a dataclass, a typed dict, a list, a tuple, a plain value."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from backends.device.reading import DamagedFile, read_json

T = TypeVar("T")
NoneType = type(None)
UNIONS = (Union, getattr(types, "UnionType", Union))  # the latter is that of `X | Y`, from Python 3.10 on
SHOWN = 60
NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", NoneType: "null", Path: "a path"}


def read_as(kind: type[T], path: Path, schema: int) -> T:
    """Read a JSON file that holds a value of this kind and its ``schema``; anything else is a `DamagedFile`."""
    raw = read_json(path)
    if type(found := raw.pop("schema", None)) is not int or found != schema:
        raise DamagedFile(f"{path}: expected schema {schema}, got {_short(found)}")
    value: T = typed(kind, raw, str(path))
    return value


def typed(kind: Any, value: object, where: str) -> Any:
    """Return a parsed value as the type that it is expected to be; one that is not is a `DamagedFile`.

    An integer may stand for a number, and text for a path; nothing else is converted. Keys that the type does not have
    are refused.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
        return kind(**_entries(kind, needed, value, where))  # type: ignore[operator]
    if hasattr(kind, "__required_keys__"):  # a typed dict
        return _entries(kind, kind.__required_keys__, value, where)
    if origin in UNIONS:
        return _one_of(arguments, value, where)
    if origin is Literal:
        if any(type(value) is type(one) and value == one for one in arguments):
            return value
        raise _unexpected(where, " or ".join(map(repr, arguments)), value)
    if origin in (list, tuple):
        return _items(origin, arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _unexpected(where, "an object", value)
        return {name: typed(arguments[1], entry, f"{where}: {name}") for name, entry in value.items()}
    if type(value) is kind or kind is Any:
        return value
    if kind is Path and type(value) is str:
        return Path(value)
    if kind is float and type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    raise _unexpected(where, NAMES.get(kind, str(kind)), value)


def _entries(kind: Any, needed: set[str] | frozenset[str], value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(where, "an object", value)
    kinds = get_type_hints(kind)
    if missing := sorted(needed - value.keys()):
        raise DamagedFile(f"{where}: has no {missing[0]!r}")
    if unknown := sorted(value.keys() - kinds.keys()):
        raise DamagedFile(f"{where}: unknown key {_short(unknown[0])}")
    return {name: typed(kinds[name], entry, f"{where}: {name}") for name, entry in value.items()}


def _one_of(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    for kind in others[:-1]:
        try:
            return typed(kind, value, where)
        except DamagedFile:
            continue
    return typed(others[-1], value, where)


def _items(kind: type[Any], kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _unexpected(where, "a list", value)
    if kind is list or kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise _unexpected(where, f"a list of {len(kinds)}", value)
    return kind(typed(one, entry, f"{where}: {i}") for i, (one, entry) in enumerate(zip(kinds, value)))


def _unexpected(where: str, wanted: str, value: object) -> DamagedFile:
    return DamagedFile(f"{where}: expected {wanted}, got {_short(value)}")


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, (list, dict)) else type(value).__name__
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
