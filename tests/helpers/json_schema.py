"""A JSON schema, as far as that of suites goes, held against a document: what an editor would mark."""

import re
from collections.abc import Iterator
from typing import Any

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
WORDS = {"title", "description", "default", "$schema", "definitions"}  # they say nothing of a document
CHECKS = {
    "type": lambda value, name: isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool)),
    "const": lambda value, other: value == other,
    "enum": lambda value, words: value in words,
    "pattern": lambda value, pattern: re.search(pattern, value, re.ASCII) is not None,
    "minimum": lambda value, bound: value >= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "required": lambda value, keys: set(keys) <= set(value),
}
ORDER = ["type", *(name for name in CHECKS if name != "type")]


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "") -> Iterator[str]:
    """The places of a document that are not as a schema has them."""
    given = dict(schema)
    for word in WORDS:
        given.pop(word, None)
    for part in given.pop("allOf", []):
        yield from faults(value, part, root, where)
    if reference := given.pop("$ref", ""):
        yield from faults(value, root["definitions"][reference.removeprefix("#/definitions/")], root, where)
    kinds = given.pop("anyOf", [])
    if kinds and all(list(faults(value, kind, root, where)) for kind in kinds):
        yield where
    inside = {name: given.pop(name, None) for name in ("items", "properties", "additionalProperties")}
    assert set(given) <= set(CHECKS), f"no such keyword is known: {set(given) - set(CHECKS)}"
    if not all(CHECKS[name](value, given[name]) for name in ORDER if name in given):
        yield where
    elif isinstance(value, list) and inside["items"]:
        for number, item in enumerate(value):
            yield from faults(item, inside["items"], root, f"{where}.{number}".strip("."))
    elif isinstance(value, dict):
        known = inside["properties"] or {}
        for key, item in value.items():
            others = inside["additionalProperties"]
            place = f"{where}.{key}".strip(".")
            if key in known or isinstance(others, dict):
                yield from faults(item, known.get(key, others), root, place)
            elif others is False:
                yield place
