"""Change model files by their structure: ONNX by its fields, TFLite by its tables, weights by their tensors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import strategies as some
from mutations import Draw, either, raw_bytes

INTEGERS = [0, 1, -1, 2, 3, 7, 127, 255, 1 << 20, (1 << 31) - 1, -(1 << 31)]
NAMES = ["", "x", "y", "../canary.json", "a" * 300, "CUSTOM"]
FLOATS = [0.0, -1.0, 1e-45, 1e38, float("inf"), float("nan")]


def onnx(draw: Draw, content: bytes) -> bytes:
    """Change up to three fields of an ONNX model, or its bytes."""
    from onnx import ModelProto

    if either(draw, (3, False), (1, True)):
        return raw_bytes(draw, content)
    model = ModelProto.FromString(content)
    for _ in range(draw(some.integers(1, 3))):
        places = list(_fields(model))
        message, field = places[draw(some.integers(0, len(places) - 1))]
        _change_field(draw, message, field)
    changed: bytes = model.SerializePartialToString()
    return changed


def _fields(message: Any) -> Iterator[tuple[Any, Any]]:
    for field, value in message.ListFields():
        yield message, field
        if field.message_type:
            for inner in value if field.is_repeated else [value]:
                yield from _fields(inner)


def _change_field(draw: Draw, message: Any, field: Any) -> None:
    value = getattr(message, field.name)
    if not field.is_repeated:
        if field.message_type or draw(some.booleans()):
            message.ClearField(field.name)
        else:
            with suppress(ValueError):  # a number that an enumeration lacks
                setattr(message, field.name, _other(draw, value))
        return
    at = draw(some.integers(0, len(value) - 1)) if len(value) else 0
    match either(draw, (2, "remove"), (1, "repeat"), (3, "change")):
        case "remove" if len(value):
            del value[at]
        case "repeat" if len(value):
            value.append(value[at])
        case "change" if len(value) and not field.message_type:
            value[at] = _other(draw, value[at])


def _other(draw: Draw, value: Any) -> Any:
    if isinstance(value, bytes):
        return raw_bytes(draw, value)
    choices = {str: NAMES, float: FLOATS}.get(type(value), INTEGERS)
    return draw(some.sampled_from(choices))


def tflite(draw: Draw, content: bytes) -> bytes:
    """Change up to three values of a TFLite model's tables, or its bytes."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    if either(draw, (1, False), (1, True)):
        return raw_bytes(draw, content)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for _ in range(draw(some.integers(1, 3))):
        places = list(_attributes(model))
        table, name = places[draw(some.integers(0, len(places) - 1))]
        _change_attribute(draw, table, name)
    builder = Builder(1024)
    try:
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    except Exception:  # what it cannot write is no file
        return raw_bytes(draw, content)
    return bytes(builder.Output())


def _attributes(table: Any) -> Iterator[tuple[Any, str]]:
    for name, value in vars(table).items():
        yield table, name
        for inner in value if isinstance(value, list) else [value]:
            if hasattr(inner, "Pack"):
                yield from _attributes(inner)


def _change_attribute(draw: Draw, table: Any, name: str) -> None:
    value = getattr(table, name)
    several = list(value) if isinstance(value, list | np.ndarray) else None
    if several:
        at = draw(some.integers(0, len(several) - 1))
        match either(draw, (1, "remove"), (1, "repeat"), (3, "change")):
            case "remove":
                del several[at]
            case "repeat":
                several.append(several[at])
            case "change" if not hasattr(several[at], "Pack"):
                several[at] = type(several[at])(draw(some.sampled_from([0, 1, 3, 127])))
        setattr(table, name, several if isinstance(value, list) else np.array(several, value.dtype))
    elif isinstance(value, bytes):
        setattr(table, name, raw_bytes(draw, value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        setattr(table, name, draw(some.sampled_from(INTEGERS)))
    else:
        setattr(table, name, None)


def weights(draw: Draw, content: bytes) -> bytes:
    """Change tensors of a state dict, or the bytes of its file; or let it hold code."""
    import torch

    if either(draw, (1, False), (1, True)):
        return raw_bytes(draw, content)
    state = torch.load(io.BytesIO(content), weights_only=True)
    name = draw(some.sampled_from(sorted(state)))
    other = some.sampled_from([None, 1, "x", [1], {}, torch.zeros(0), torch.zeros(1, 2, 3), torch.tensor(float("nan")),
                               torch.zeros(3, dtype=torch.int64), torch.zeros(1).expand(1 << 40), Code()])  # fmt: skip
    match either(draw, (3, "replace"), (1, "remove"), (1, "rename"), (1, "alone")):
        case "replace":
            state[name] = draw(other)
        case "remove":
            del state[name]
        case "rename":
            state[draw(some.sampled_from(["", "x", "module.x", 1]))] = state.pop(name)
        case "alone":
            state = draw(other)
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


class Code:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return a call of `open`."""
        return open, ("../unpickled", "w")
