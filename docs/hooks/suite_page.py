"""The pages of a suite's keys and the gate's rules, written from the pydantic models by way of their JSON schema."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from harness.config import Suite
from harness.gate.rules import Rules

Schema = dict[str, Any]  # JSON schema, as pydantic writes it
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
KINDS = {"integer": "integer", "number": "number", "string": "string", "boolean": "`true` or `false`", "null": ""}

SUITE = """# Suite keys

A suite is one TOML file. Unknown keys are errors that name the nearest known key. Wherever a list is allowed, a single
value is a list of one, and a table with several lists stands for every combination of their values.

This page is generated from the models in `harness/config/`, as is the JSON Schema that `patchbench schema` prints, [for
editors](../how-to/index.md#in-the-editor).
"""
RULES = """# Gate rules

`patchbench gate --rules FILE` takes its margins and limits from a TOML file. This page is generated from the models in
`harness/gate/rules.py`; [Gate a release in CI](../how-to/gate.md) shows them in use.
"""


def suite() -> str:
    """Return the page of a suite's keys."""
    return SUITE + "\n".join(_sections(Suite))


def rules() -> str:
    """Return the page of a rules file's keys."""
    return RULES + "\n".join(_sections(Rules))


def _sections(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema(by_alias=True)
    tables = schema.get("$defs", {})
    yield _section("At the top of the file", schema, "")
    yield from _nested(schema, tables, "")


def _nested(schema: Schema, tables: Schema, prefix: str) -> Iterator[str]:
    """Yield a section for each table below this one, in the order of their keys."""
    for key, value in schema["properties"].items():
        reference = _table_of(value)
        if reference is None:
            continue
        is_list = value.get("type") == "array"
        path = f"{prefix}{key}"
        heading = f"[[{path}]]" if is_list else f"[{path}]"
        yield _section(f"`{heading}` {{ #{_anchor(path)} }}", tables[reference], path)
        yield from _nested(tables[reference], tables, f"{path}.")


def _section(heading: str, schema: Schema, path: str) -> str:
    required = schema.get("required", ())
    rows = [
        _row(key, value, f"{path}.{key}".strip("."), key in required) for key, value in schema["properties"].items()
    ]
    about = schema.get("description", "")
    return "\n".join(
        [f"\n## {heading}\n", about, "", "| key | value | default | meaning |", "|---|---|---|---|", *rows]
    )


def _row(key: str, value: Schema, path: str, required: bool) -> str:
    kind = _kind(value)
    if _table_of(value):
        kind = f"[{kind}](#{_anchor(path)})"
    cells = (f"`{key}`", kind, _default(value, required), " ".join(value.get("description", "").split()))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Schema, required: bool) -> str:
    if required:
        return "required"
    default = value.get("default")
    if default is None or default in ("", [], [""]) or _table_of(value):
        return ""
    if isinstance(default, list) and len(default) == 1:
        default = default[0]
    return f"`{json.dumps(default)}`"


def _kind(value: Schema) -> str:
    if _table_of(value):
        return "tables" if value.get("type") == "array" else "table"
    if "anyOf" in value:
        return " or ".join(filter(None, map(_kind, value["anyOf"])))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{json.dumps(word)}`" for word in value["enum"])
    if value.get("type") == "array":
        return _list(value)
    if value.get("type") == "object":
        return "table"
    bounds = [text.format(value[name]) for name, text in BOUNDS.items() if name in value]
    return " ".join([KINDS[value["type"]], ", ".join(bounds)]).strip()


def _list(value: Schema) -> str:
    if "prefixItems" in value:
        kinds = [_kind(item) for item in value["prefixItems"]]
        return f"`[…]` of {len(kinds)} {kinds[0]}s"
    items = value["items"]
    kinds = [_inner(item) for item in items.get("anyOf", [items])]
    return f"{' or '.join(kinds)}; or a list"


def _inner(item: Schema) -> str:
    """What a list holds: one of its values, or a list within the list."""
    return f"list of {_kind(item['items'])}s" if item.get("type") == "array" else _kind(item)


def _anchor(path: str) -> str:
    return path.replace(".", "-")


def _table_of(value: Schema) -> str | None:
    """The table that a key holds, by its model's name, if it holds one."""
    for part in (value, value.get("items", {}), *value.get("anyOf", ())):
        if "$ref" in part:
            return str(part["$ref"].rpartition("/")[2])
    return None
