"""Tables of TOML as types: every key is checked; an unknown one is an error that names the nearest."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from backends.device.errors import UserError

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Axis = Annotated[
    tuple[T, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,)), Field(min_length=1)
]


class Table(BaseModel):
    """A table of TOML: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def read_toml(path: Path, model: type[M], what: str) -> M:
    """Reads a TOML file into a model; what is wrong with it is one `UserError` with a line for each fault."""
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML: {error}") from error
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault, model)}" for fault in error.errors())
        raise UserError(f"{path}: not {what}\n{faults}") from error


def _explain(fault: Any, model: type[BaseModel]) -> str:
    where, message = ".".join(str(p) for p in fault["loc"]), fault["msg"].removeprefix("Value error, ")
    if fault["type"] != "extra_forbidden":
        return f"{where}: {message}" if where else message
    table: Any = model
    for part in fault["loc"][:-1]:
        if isinstance(part, str):
            table = _table_of(table, part)
    keys = [f.alias or k for k, f in table.model_fields.items()]
    near = difflib.get_close_matches(str(fault["loc"][-1]), keys, n=1)
    return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(keys)}")


def _table_of(table: type[BaseModel], key: str) -> type[BaseModel]:
    annotation: Any = table.model_fields[key].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return table


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of a suite's patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
