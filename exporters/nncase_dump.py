"""Read what nncase's compiler says of its passes: the layers that it lowered, and where constants lie in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from backends.device.errors import UserError
from backends.device.nncase import Build, Layer, Value
from exporters.calibration import Range

LOWERED, PLACED = "*_QuantizePass/*_LowerdOptimize/main/End_main.il", "*/*_DDrBufferSchdeule/End/func_*.il"
INPUT = re.compile(r"^%main = fn\(%([^:]+): (\w+)\[([\d,]*)\]\)", re.MULTILINE)
LINE = re.compile(r"^  %(\d+) = (\w*)\((.*)\): // (?:(\w+)\[([\d,]*)\]|\(.*\))$", re.MULTILINE)
AFFINE = re.compile(r"QuatParm : new\((-?\d+),\s*([^f)]+)f?\)")
BUFFER = re.compile(r"T\.Buffer\((ddrAct|ddrW), \w+, MemSpan\((\d+), (\d+)\)@Rdata")
DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i8": "int8", "i16": "int16", "i32": "int32"}
MOVED = {"GNNELoad", "GNNEStore"}  # between the memory outside and the chip's own
CONSTANT = "GNNELoadW"
LEVELS = 255
NARROWEST = 0.01  # range, to nncase


class Span(NamedTuple):
    """Where the constants of a convolution lie: first bytes and lengths of its table and of its weights."""

    table: int
    table_bytes: int
    weights: int
    weights_bytes: int


def layers(dump: Path, ranges: Mapping[str, Range]) -> Build:
    """Return the layers of a lowered network; a scale that no range implies is a `UserError`."""
    text = _only(dump, LOWERED).read_text()
    found = INPUT.search(text)
    if not found:
        raise UserError("nncase compiled no network of one input")
    name, dtype, shape = found.groups()
    values = {name: [Value(name, DTYPES[dtype], _shape(shape))]}  # of a tuple several
    made = []
    for number, operator, words, dtype, shape in LINE.findall(text):
        taken = [value for one in re.findall(r"%([^ ,:()]+)", words) for value in values.get(one, ())]
        if operator in MOVED | {""}:
            values[number] = taken
            continue
        output = Value(f"{operator} {number}", DTYPES.get(dtype, dtype), _shape(shape))
        if affine := AFFINE.search(words):
            zero_point, scale = int(affine.group(1)), float(affine.group(2))
            output = Value(_named(scale, zero_point, ranges), output.dtype, output.shape, scale, zero_point)
        values[number] = [output]
        if operator != CONSTANT:
            made.append(Layer(operator, taken, output))
    return Build(made)


def spans(dump: Path) -> Iterator[Span]:
    """Give where the constants of each convolution lie among the file's, in the order in which they run."""
    for file in dump.glob(PLACED):
        rows = [(kind, int(at), int(size)) for kind, at, size in BUFFER.findall(file.read_text())]
        tables, weights = ([row[1:] for row in rows if row[0] == kind] for kind in ("ddrAct", "ddrW"))
        for table, weight in zip(tables, weights, strict=True):
            yield Span(*table, *weight)


def implied(span: Range) -> tuple[float, int]:
    """Return the scale and the zero point of 8-bit unsigned integers over a range."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = max(high - low, NARROWEST) / LEVELS
    return scale, round(-low / scale)


def _named(scale: float, zero_point: int, ranges: Mapping[str, Range]) -> str:
    """Return the name of a range that implies a scale and a zero point."""
    for name, span in ranges.items():
        wanted, at = implied(span)
        if abs(scale - wanted) <= 1e-4 * wanted and abs(zero_point - at) <= 1:
            return name
    raise UserError(f"nncase quantized with the scale {scale:g}, zero point {zero_point}, which no range asks for")


def _only(dump: Path, pattern: str) -> Path:
    (file,) = dump.glob(pattern)
    return file


def _shape(text: str) -> tuple[int, ...]:
    return tuple(map(int, filter(None, text.split(","))))
