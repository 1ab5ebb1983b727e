"""A suite's keys as a JSON schema, for editors of TOML."""

from __future__ import annotations

from typing import Any

from harness.config.suite import Suite
from harness.tables import OR_ONE

DIALECT = "http://json-schema.org/draft-07/schema#"  # which every editor knows
TABLES = "#/definitions/{model}"
NULL = {"type": "null"}


def suite_schema() -> dict[str, Any]:
    """Return the JSON schema of a suite: what is no `null`, and may be a value or a list, as TOML has it."""
    schema = Suite.model_json_schema(by_alias=True, ref_template=TABLES)
    schema["definitions"] = schema.pop("$defs")
    rewritten: dict[str, Any] = _for_toml(schema)
    return {"$schema": DIALECT, "title": "A suite of patchbench"} | rewritten


def _for_toml(node: Any) -> Any:
    """Rewrite a part of pydantic's schema, and all that is in it."""
    if isinstance(node, list):
        return [_for_toml(part) for part in node]
    if not isinstance(node, dict):
        return node
    node = {key: _for_toml(value) for key, value in node.items() if not _says_nothing(key, value)}
    if "prefixItems" in node:  # all of one kind, and newer than the dialect
        node["items"] = node.pop("prefixItems")[0]
    if node.pop(OR_ONE, False):
        several = {"type": node.pop("type"), "items": node["items"], "minItems": 1}
        node["anyOf"] = [node.pop("items"), several]
        node.pop("minLength", None)
        node.pop("minItems", None)
    if "anyOf" in node:
        node |= _without_null(node.pop("anyOf"))
    if "$ref" in node and len(node) > 1:  # whose neighbours the dialect ignores
        node["allOf"] = [{"$ref": node.pop("$ref")}]
    return node


def _says_nothing(key: str, value: object) -> bool:
    """Whether a keyword tells an editor nothing: the model's own names, and defaults that are absence."""
    return (key == "title" and isinstance(value, str)) or (key == "default" and value in (None, "", [""]))


def _without_null(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    left = [kind for kind in kinds if kind != NULL]
    return left[0] if len(left) == 1 else {"anyOf": left}
