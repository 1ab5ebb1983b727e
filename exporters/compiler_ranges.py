"""The ranges that a vendor's compiler gives a network, for files of other runtimes."""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from backends.device.artifact import Calibration, Pixels, QuantSpec
from backends.device.errors import UserError
from backends.device.toolchains import ONNX, TPU_MLIR, needed
from exporters.calibration import Range, short
from exporters.failure import naming
from exporters.files import describe
from exporters.files.description import Description, Tensor
from exporters.ranges import WEIGHTED, sources
from exporters.victim import Victim

CLIPS = ("Clip", "Relu")
NEAR = 1e-4
FROM_FLOAT = {"Cast", "quant"}  # tpu-mlir calls the integers of the input otherwise


def compiler_ranges(network: nn.Module, victim: Victim, quant: QuantSpec, pixels: Pixels) -> dict[str, Range]:
    """Return the ranges of a ``FORMAT:CALIBRATION`` by the names of the network's ONNX; none for other calibrations.

    They are those of the integers in the file of that format, which is made, and proven, for this alone. What the
    compiler computes without rounding it has none.
    """
    toolchain = needed(ONNX, quant.calibration)
    if toolchain is None:
        return {}
    format, _, calibration = quant.calibration.partition(":")
    spec = replace(
        quant, calibration=cast(Calibration, calibration), weight_bits=8, weight_signed=True, per_channel=True,
        activation_signed=toolchain.signature.startswith("s"), symmetric_activations=toolchain.symmetric,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{victim.name}.{format}"
        with naming(Path(file.name), file):
            importlib.import_module(f"exporters.{toolchain.module}").write(network, victim, spec, pixels, file)
            return ranges_in(describe(file))


def ranges_in(file: Description) -> dict[str, Range]:
    """Return the range of each activation of a compiled file that is an 8-bit integer, by its name in ONNX."""
    found = {tensor.name: _range(tensor) for tensor in file.inputs if tensor.scale}
    for operator in file.operators:
        for tensor in operator.outputs:
            if not tensor.scale:
                continue
            if operator.name in FROM_FLOAT:
                name = operator.inputs[0].name
            elif file.format in TPU_MLIR.formats:
                name = tensor.name.rpartition("_")[0]  # behind it stands the operator
            else:
                name = tensor.name.removesuffix("_int8")  # as rknn-toolkit2 calls the integers of an end
            found.setdefault(name, _range(tensor))
    return found


def _range(tensor: Tensor) -> Range:
    """Return what the integers of a tensor stand for, the least and the largest."""
    (scale,), (zero_point,), integers = tensor.scale, tensor.zero_point, np.iinfo(tensor.dtype)
    return float(integers.min - zero_point) * scale, float(integers.max - zero_point) * scale


def signed_activations(model: Any, known: Mapping[str, Range]) -> bool:
    """Whether a compiler gave signed integers to what a ReLU gives; their zero is not the least of them."""
    clipped = [node.output[0] for node in model.graph.node if node.op_type in CLIPS]
    return any(known[name][0] < 0 for name in clipped if name in known)


def usable(
    victim: Victim, quant: QuantSpec, network: Description, model: Any, known: Mapping[str, Range]
) -> dict[str, Range]:
    """Return a compiler's ranges, if there are any, as an ONNX file of a network can have them; else a `UserError`.

    In that file what is moved keeps its range; where it has none before, it has that of the first after it. What each
    convolution and dense layer takes needs a range, and none may reach beyond a clip, which is left to the range there.
    """
    from onnx import numpy_helper

    of = sources(network)
    shared = {of[name]: known[name] for name in reversed(of) if name in known} | dict(known)
    taken = (operator.inputs[0].name for operator in network.operators if operator.name in WEIGHTED)
    if lacking := [name for name in taken if known and of.get(name, name) not in shared]:
        raise UserError(f"{victim.name}: the file of {quant.calibration} has no range of {short(lacking[0])!r}")
    scalars = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if not one.dims}
    for node in model.graph.node:
        name, ceiling = node.output[0], float(scalars.get((*node.input, "", "")[2], math.inf))
        if node.op_type == "Clip" and name in shared and shared[name][1] > ceiling * (1 + NEAR):
            raise UserError(
                f"{victim.name}: {quant.calibration} gives {short(name)!r} a range up to {shared[name][1]:g}, beyond "
                f"its clip to {ceiling:g}, which in ONNX is left to the range: use another calibration"
            )
    return shared
