"""Read TOML into typed tables; an unknown key is an error that names the nearest one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from backends import toml_files
from backends.device.errors import UserError, did_you_mean
from backends.device.names import SHOWN, shown

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
OR_ONE = "x-or-one"  # marks an axis in a JSON schema, which knows no validator
Axis = Annotated[
    tuple[T, ...],
    BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,)),
    Field(min_length=1, json_schema_extra={OR_ONE: True}),
]


# What pydantic expected, in our words, by its kind of error; braces are filled from the error's context.
EXPECTED = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than_equal": "a number of at least {ge:g}",
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "less_than": "a number below {lt:g}",
    "finite_number": "a finite number",
    "too_short": "{min_length} or more values",
    "too_long": "at most {max_length} values",
    "string_type": "text",
    "none_required": "nothing",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "list_type": "a list",
    "tuple_type": "a list",
} | dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "an integer")
EXPECTED |= dict.fromkeys(("float_type", "float_parsing"), "a number")
EXPECTED |= dict.fromkeys(("bool_type", "bool_parsing"), "true or false")
LARGEST = 2**63 - 1  # of a TOML file's integers
LONGEST = 10_000  # characters of a text
DEEPEST = 20  # levels of tables and lists
PLACEHOLDER = re.compile("<your [^<>]+>")  # of `patchbench init`


class Table(BaseModel):
    """A TOML table that allows no unknown keys, and no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def read_toml(path: Path, model: type[M], what: str) -> M:
    """Read a TOML file into a model; everything wrong with it is one `UserError` with a line per fault."""
    return validate(toml_files.read_toml(path), model, f"{path}: not {what}")


def validate(raw: dict[str, Any], model: type[M], complaint: str) -> M:
    """Make a model of what TOML says; everything wrong with it is one `UserError`, a complaint and a line per fault."""
    faults = list(_odd_values(raw))
    if not faults:
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            faults = explain(error, raw, model)
    lines = "\n".join(f"  {fault}" for fault in faults)
    raise UserError(f"{complaint}\n{lines}")


def explain(error: ValidationError, raw: object, model: type[BaseModel]) -> list[str]:
    """Return a line for each place of a document that is not as its model has it: where, what was expected, what came.

    Where several kinds of values are allowed, pydantic has an error for each: they become one line.
    """
    expected: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    for fault in error.errors():
        keys = _place(raw, fault["loc"], fault["type"])
        where = ".".join(map(str, keys))
        if where in lines and where not in expected:
            continue
        if fault["type"] in EXPECTED:
            expected.setdefault(where, []).append(EXPECTED[fault["type"]].format(**fault.get("ctx", {})))
            came = shown(fault["input"]) if isinstance(fault["input"], str) else str(fault["input"])[:SHOWN]
            message = f"expected {' or '.join(dict.fromkeys(expected[where]))}, got {came}"
        elif fault["type"] == "extra_forbidden":
            message = f"unknown key; {did_you_mean(str(keys[-1]), _keys(model, keys[:-1]))}"
        elif fault["type"] == "missing":
            message = "missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
        lines[where] = f"{where}: {message}" if where else message
    return list(lines.values())


def _place(raw: object, loc: Sequence[int | str], kind: str) -> list[int | str]:
    """Return the keys that lead to a fault; pydantic adds names of its own for the kinds that a value may be of."""
    keys: list[int | str] = []
    for part in loc:
        inside = raw if isinstance(raw, dict | list | tuple) else ()
        is_key = part in inside if isinstance(inside, dict) else isinstance(part, int) and part < len(inside)
        if is_key:
            raw = inside[part]  # type: ignore[index]
            keys.append(part)
        elif isinstance(part, int) and part == 0:
            continue  # a value alone, which stands for a list of one
        elif kind == "missing" and part == loc[-1]:
            keys.append(part)
    return keys


def _odd_values(raw: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each value that no key of ours can have: endless, of control characters, nested without end."""
    left: deque[tuple[object, tuple[object, ...]]] = deque([(raw, ())])
    while left:
        value, keys = left.popleft()
        where = ".".join(map(str, keys))
        if len(keys) > DEEPEST:
            yield f"{where}: nested too deep"
        elif isinstance(value, dict):
            odd = {key: fault for key in value if (fault := _odd_text(key))}
            yield from (f"{where}: key: {fault}".removeprefix(": ") for fault in odd.values())
            left += [(inner, (*keys, key)) for key, inner in value.items() if key not in odd]
        elif isinstance(value, list):
            left += [(inner, (*keys, i)) for i, inner in enumerate(value)]
        elif isinstance(value, str) and (fault := _odd_text(value)):
            yield f"{where}: {fault}"
        elif isinstance(value, int) and abs(value) > LARGEST:
            yield f"{where}: expected an integer of 64 bits"


def _odd_text(text: str) -> str:
    if len(text) > LONGEST:
        return f"expected a text of at most {LONGEST:,} characters, got {len(text):,}"
    if PLACEHOLDER.fullmatch(text):
        return f"fill in {text}"
    if not all(letter.isprintable() or letter in "\n\t" for letter in text):
        return f"expected a text without control characters, got {shown(text)}"
    return ""


def _keys(model: type[BaseModel], keys: Sequence[int | str]) -> list[str]:
    """Return the keys of the table that some keys lead to."""
    table = model
    for key in keys:
        if isinstance(key, str):
            table = _table_of(table, key)
    return [field.alias or name for name, field in table.model_fields.items()]


def _table_of(table: type[BaseModel], key: str) -> type[BaseModel]:
    annotation: Any = table.model_fields[key].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return table


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of a suite's patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
