"""Prove that a file's integers are those that its `QuantSpec` asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Range, activation_affine, short
from exporters.files import plain
from exporters.files.description import QUANTIZERS, Description
from exporters.ranges import WEIGHTED, Weights


def require_scales(
    file: Description, ranges: Mapping[str, Range], weights: Mapping[str, Weights], spec: QuantSpec
) -> None:
    """Check each scale, zero point and level of an INT8 file against those implied; a difference is a `UserError`.

    ``ranges`` and ``weights`` are those of the float file, by tensor. A tensor that only the INT8 file has (a
    requantized copy) is skipped, and so are the floats of operators that are allowed to compute in float; a tensor that
    lost its scale elsewhere is not.
    """
    met = set()
    integers = {o.outputs[0].name: o.inputs[0].values for o in file.operators if o.name == "DequantizeLinear"}
    for operator in file.operators:
        for place, tensor in enumerate((*operator.inputs, *operator.outputs)):
            name = plain(tensor.name)
            if not tensor.scale and tensor.is_float and (operator.in_float or operator.name in QUANTIZERS):
                continue
            if name in ranges:
                affine = activation_affine(name, ranges[name], spec)
                scales = np.array([affine.scale])
                zero_point = affine.zero_point
            elif name in weights and operator.name in WEIGHTED and place == 1:
                scales = weights[name].scales
                zero_point = 0 if spec.weight_signed else 128
            else:
                continue
            met.add(name)
            found = np.array(tensor.scale)
            if found.shape != scales.shape or not np.allclose(found, scales, rtol=1e-5, atol=0):
                raise _differs(file, name, "scale", scales, found)
            if set(tensor.zero_point) != {zero_point}:
                raise _differs(file, name, "zero point", np.array([zero_point]), np.array(tensor.zero_point))
            if name in weights:
                if (tensor.dtype == "int4") != spec.packed:
                    raise _differs(file, name, "type", np.array("int4" if spec.packed else "int8"), tensor.dtype)
                values = integers.get(tensor.name, tensor.values)
                highest = 2 ** (spec.weight_bits - 1) - 1
                if values is None or (furthest := np.abs(values.astype(np.int64) - zero_point).max()) > highest:
                    raise _differs(file, name, "furthest level", np.array(highest), np.array(furthest))
    if lost := weights.keys() - met:
        raise UserError(f"{file.path}: the quantizer skipped the weights {sorted(lost)[:3]}: try the other format")


def _differs(file: Description, name: str, what: str, wanted: np.ndarray, found: np.ndarray | str) -> UserError:
    touching = [o.name for o in file.operators if any(plain(t.name) == name for t in (*o.inputs, *o.outputs))]
    known = ", ".join(dict.fromkeys(one for one in touching if one not in QUANTIZERS))
    return UserError(
        f"{file.path}: the {what} of {short(name)!r} is not what its QuantSpec implies: "
        f"expected {np.array2string(wanted, threshold=4)}, the file has {np.array2string(np.array(found), threshold=4)}"
        f": the quantizer does not support one of its operators in this use: {known}"
    )
