"""Read the network behind a ``.bmodel`` or ``.cvimodel`` as a `Description`, from the text of its MLIR.

Operators have tpu-mlir's names without their dialect; one that its chip leaves to the CPU has the name of its function,
and a pool says of which kind it is.
Weights carry the scales that the multipliers and shifts of their operator imply.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from backends.device import tpu_mlir
from backends.device.artifact import Format
from backends.device.reading import DamagedFile, first_line, read_whole_npz
from exporters.files.description import Description, Operator, Tensor, computes_in_float

LINE = re.compile(r'^ +(%\d+)(?::\d+)? = "(?:top|tpu)\.(\w+)"\((.*?)\) ?(.*) : \((.*)\) -> (.*) loc\((.*)\)$')
LOCATION = re.compile(r"^#(loc\d*) = loc\((.*)\)$", re.MULTILINE)
TYPE = re.compile(r"none|tensor<((?:\d+x)*)((?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*)>")
UNIFORM = re.compile(r"!quant\.uniform<(\w+):f32, ([-+\d.eE]+)(?::(-?\d+))?>")
DTYPES = {"si8": "int8", "i8": "int8", "ui8": "uint8", "u8": "uint8", "si16": "int16", "i16": "int16", "si32": "int32"}
DTYPES |= {"i32": "int32", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "si4": "int4", "i4": "int4"}
NUMBERS = re.compile(r"(multipliers?|rshifts?) = (?:\[([-\d, ]+)\]|(-?\d+))")
FAULTS = (ValueError, KeyError, IndexError, OSError, EOFError)
MULTIPLY = {"Conv2D", "MatMul"}  # their second input is the weights
RETURN = re.compile(r"^ +return (.*) :", re.MULTILINE)
APART = {"Input", "None", "Weight"}


class Line(NamedTuple):
    """A line of the text: an operator, with the names of its values."""

    operator: str
    operands: tuple[str, ...]
    attributes: str
    outputs: tuple[Tensor, ...]


def describe(path: Path) -> Description:
    """Read a file that was exported here; a damaged one, or one of others, is a `DamagedFile`."""
    program = tpu_mlir.read(path)
    with tempfile.TemporaryDirectory() as folder:
        constants = read_whole_npz(tpu_mlir.placed(program, Path(folder)).with_name(tpu_mlir.WEIGHTS))
    try:
        operators, given, wanted = graph(program.text, constants)
    except FAULTS as error:
        raise DamagedFile(f"{path}: its network cannot be read ({first_line(error)})") from error
    return Description(path, cast(Format, path.suffix[1:]), operators, operators, given, wanted)


def graph(
    text: str, constants: Mapping[str, NDArray[Any]]
) -> tuple[tuple[Operator, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return a network's operators in order, its inputs and its outputs."""
    locations = dict(LOCATION.findall(text))
    values: dict[str, Tensor] = {}
    operators: list[Operator] = []
    inputs: list[Tensor] = []
    wanted = [name for line in RETURN.findall(text) for name in re.findall(r"%\d+(?:#\d+)?", line)]
    for name, line in _lines(text, locations):
        if line.operator == "Weight":
            (tensor,) = line.outputs
            held = constants.get(tensor.name)
            line = line._replace(outputs=(replace(tensor, values=_shaped(tensor, held)),))
        outputs = line.outputs
        if line.operator == "Input":
            inputs.extend(outputs)
        elif line.operator not in APART:
            operands = tuple(values[one] for one in line.operands if one in values)
            operands = _weighted(line, operands, outputs)
            final = name in wanted
            in_float = computes_in_float(line.operator, operands, outputs, final)
            operators.append(Operator(len(operators), line.operator, operands, outputs, in_float))
        if line.operator != "None":
            values[name] = outputs[0]
            values |= {f"{name}#{i}": output for i, output in enumerate(outputs)}
    if not (operators and inputs and wanted):
        raise ValueError("no operators, no input or no output")
    return tuple(operators), tuple(inputs), tuple(values[one] for one in wanted)


def _lines(text: str, locations: Mapping[str, str]) -> Iterator[tuple[str, Line]]:
    for found in map(LINE.match, text.splitlines()):
        if not found:
            continue
        name, operator, operands, attributes, _, types, location = found.groups()
        if operator == "GenericCpu":
            operator = re.findall(r'cpu_op_name = "(\w+)"', attributes)[0]
        elif operator == "Pool2D":
            operator = re.findall(r"pool_mode (\w+)", attributes)[0] + operator
        names = _names(location, locations)
        outputs = tuple(
            _tensor(label, one) for label, one in zip(_enough(names, types), TYPE.finditer(types), strict=True)
        )
        yield name, Line(operator, tuple(operands.replace(" ", "").split(",")), attributes, outputs)


def _enough(names: Sequence[str], types: str) -> list[str]:
    """Return a name for each output; an operator with one name for several numbers them."""
    count = len(TYPE.findall(types))
    return list(names) if len(names) == count else [names[0], *(f"{names[0]}_{i}" for i in range(1, count))]


def _names(location: str, locations: Mapping[str, str]) -> list[str]:
    """Return the names at a location, which may be several joined."""
    while location.startswith("#"):
        location = locations[location[1:]]
    found: list[str] = []
    for quoted, other in re.findall(r'"([^"]*)"|#(loc\d+)', location):
        found += [quoted] if quoted else _names(f"#{other}", locations)
    return found or [""]


def _tensor(name: str, found: re.Match[str]) -> Tensor:
    axes, element = found.groups()
    if axes is None:
        return Tensor(name, "none")
    shape = tuple(map(int, axes[:-1].split("x"))) if axes else ()
    if uniform := UNIFORM.match(element):
        kind, scale, zero_point = uniform.groups()
        return Tensor(name, DTYPES[kind], shape, (float(scale),), (int(zero_point or 0),))
    return Tensor(name, DTYPES.get(element, "float32" if "!quant.calibrated<f32" in element else "unknown"), shape)


def _shaped(tensor: Tensor, values: NDArray[Any] | None) -> NDArray[Any] | None:
    fits = values is not None and tensor.shape is not None and values.size == np.prod(tensor.shape)
    return values.reshape(tensor.shape) if fits and values is not None else values


def _weighted(line: Line, operands: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give the weights of an operator the scales that its multipliers and shifts leave for them."""
    if line.operator not in MULTIPLY or operands[1].dtype != "int8" or not (operands[0].scale and outputs[0].scale):
        return operands
    numbers = {key.rstrip("s"): many or one for key, many, one in NUMBERS.findall(line.attributes)}
    multipliers, shifts = (np.array([int(n) for n in numbers[key].split(",")]) for key in ("multiplier", "rshift"))
    unit = 2.0**-31 if "rq_mode QDM" in line.attributes else 1.0
    scales = multipliers * unit * 2.0**-shifts * outputs[0].scale[0] / operands[0].scale[0]
    axis = 0 if len(scales) > 1 else None
    weights = replace(operands[1], scale=tuple(scales.tolist()), zero_point=(0,) * len(scales), axis=axis)
    return (operands[0], weights, *operands[2:])
