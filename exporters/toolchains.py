"""What the exporters of vendors' toolchains share: specs, what they are fed, how they are run, checks of layers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backends import environments
from backends.device.artifact import Pixels, QuantSpec
from backends.device.errors import UserError
from backends.device.toolchains import Toolchain
from backends.hosts import local
from exporters.calibration import Floats, batches, short
from exporters.likeness import LIKE_FLOAT
from exporters.onnx_float import run as run_float
from exporters.ranges import Learned
from exporters.victim import Victim

NEAR = 1e-3  # of the largest logit
COLOURS = re.compile(r"\x1b\[[\d;]*m")
# as Python has it, and .NET
ERROR = re.compile(
    r"^(?:Unhandled exception\. )?[\w.]+: (?:One or more errors occurred\. )?(?!Traceback)(.{1,200})", re.MULTILINE
)


def taken(toolchain: Toolchain, quant: QuantSpec | None, learned: Learned) -> QuantSpec:
    """Return a spec that a toolchain's quantizer can follow; any other is a `UserError`."""
    if quant is None:
        raise UserError(f"{toolchain.package} is asked for integers: give its files precision w8a8")
    fits = quant.symmetric_activations == toolchain.symmetric and quant.per_channel and quant.weight_bits == 8
    if not fits or quant.signature != toolchain.signature or learned:
        raise UserError(
            f"{toolchain.package} quantizes to w8a8, {toolchain.signature}, with{'' if toolchain.symmetric else 'out'} "
            f"symmetric_activations and with per_channel, not to levels that were trained; got {quant.precision} "
            f"{quant.signature}"
        )
    return quant


def calibration_images(pixels: Pixels, quant: QuantSpec) -> Floats:
    """Return the images to calibrate on as a network takes them, float32 ``(n, 3, h, w)`` in [0, 1]."""
    used = np.concatenate(list(batches(pixels, quant)))
    return np.ascontiguousarray(used.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def for_one_image(model: Any, opset: int, ir_version: int) -> Any:
    """Return an ONNX model whose batch is one image, in the versions of ONNX that a toolchain reads."""
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    single.ir_version = ir_version
    del single.opset_import[:], single.graph.value_info[:]
    single.opset_import.append(onnx.helper.make_opsetid("", opset))
    for tensor in (*single.graph.input, *single.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    return onnx.shape_inference.infer_shapes(single)


def require_answers(path: Path, toolchain: Toolchain, cosines: Iterable[tuple[str, float]]) -> None:
    """Check that each layer is like the float network's, by the cosine of its outputs; else a `UserError` names it."""
    for name, cosine in cosines:
        if not cosine >= LIKE_FLOAT:
            raise UserError(
                f"{path}: from {short(name)!r} on, what {toolchain.package} compiled is not like the float network "
                f"(cosine {cosine:.2f}): try another calibration"
            )


def install(toolchain: Toolchain) -> None:
    """Make a toolchain's environment, unless it exists."""
    environments.make_environment(environments.pinned(toolchain.package), lambda word: None)


def run_in_environment(
    module: str, toolchain: Toolchain, folder: Path, victim: Victim, variables: Mapping[str, str] | None = None
) -> None:
    """Run a program of ours with a toolchain's Python; a failure is a `UserError` with the toolchain's reason."""
    python, where = local.interpreter(environments.pinned(toolchain.package))
    more = {"PYTHONPATH": os.pathsep.join(where), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", **(variables or {})}
    done = subprocess.run(
        [python, "-m", module], cwd=folder, env=os.environ | more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        errors: list[str] = ERROR.findall(COLOURS.sub("", done.stdout))
        why = errors[-1].strip() if errors else "it says nothing"
        raise UserError(f"{victim.name}: {toolchain.package} failed: {why}")


def in_float(model: Any, pixels: Pixels, quant: QuantSpec, images: int, name: str = "") -> Floats:
    """Return what a float network has under a name, by default its logits, for the first calibration images."""
    name = name or model.graph.output[0].name
    rows = [batch[name] for batch in run_float(model, [name], pixels, quant)]
    return np.concatenate(rows)[:images]


def require_floats(path: Path, toolchain: Toolchain, golden: Floats, logits: Floats) -> None:
    """Check that a toolchain computes in float what the network does, ``(n, classes)``; else raise a `UserError`."""
    off = np.abs(golden - logits).max() / np.abs(logits).max()
    if not off < NEAR:
        raise UserError(
            f"{path}: as {toolchain.package} reads it, the float network gives other logits than the network (by "
            f"{off:.2g} of the largest)"
        )
