"""Read TOML into typed tables; an unknown key is an error that names the nearest one."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from backends.device import reading
from backends.device.errors import UserError, did_you_mean

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Axis = Annotated[
    tuple[T, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,)), Field(min_length=1)
]


class Table(BaseModel):
    """A TOML table that allows no unknown keys, and no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def read_toml(path: Path, model: type[M], what: str) -> M:
    """Read a TOML file into a model; everything wrong with it is one `UserError` with a line per fault."""
    raw = reading.read_toml(path)
    try:
        return model.model_validate(raw)
    except RecursionError as error:
        raise UserError(f"{path}: nested too deep") from error
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault, model)}" for fault in error.errors())
        raise UserError(f"{path}: not {what}\n{faults}") from error


def _explain(fault: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] != "extra_forbidden":
        return f"{where}: {message}" if where else message
    table: Any = model
    for part in fault["loc"][:-1]:
        if isinstance(part, str):
            table = _table_of(table, part)
    keys = [f.alias or k for k, f in table.model_fields.items()]
    return f"{where}: unknown key; {did_you_mean(str(fault['loc'][-1]), keys)}"


def _table_of(table: type[BaseModel], key: str) -> type[BaseModel]:
    annotation: Any = table.model_fields[key].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return table


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of a suite's patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
