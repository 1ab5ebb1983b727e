"""Write a network for Kendryte's K230 (``.kmodel``), by its compiler nncase."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from backends import environments
from backends.device import nncase
from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.json_types import typed
from backends.device.reading import Expected, map_npy, read_json
from backends.device.toolchains import NNCASE
from exporters import nncase_dump
from exporters.calibration import Floats, Range
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.likeness import LIKE_FLOAT, cosine
from exporters.nncase_build import ANSWER, ASKED, DUMP, FILE, GIVEN, SIMULATED, Asked
from exporters.nncase_proof import require_constants
from exporters.onnx_float import float_model, ranges_of
from exporters.onnx_graph import tidy
from exporters.ranges import Learned
from exporters.toolchains import (
    calibration_images,
    for_one_image,
    in_float,
    install,
    require_answers,
    run_in_environment,
    taken,
)
from exporters.victim import Victim

LAYOUT: Layout = "nchw"
OPSET, IR_VERSION = 17, 8  # of ONNX, as nncase reads it
HELD = 8  # images
METHODS = {"no_clip": "NoClip", "kld": "Kld"}


class _Compiled(NamedTuple):
    """A compiled network, the ranges that it has, and what the simulator answers to the held images."""

    content: bytes
    ranges: dict[str, Range]
    answers: Floats


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description:
    """Write the network to ``path``: from one image, float32 ``(1, 3, h, w)`` in [0, 1], to logits.

    The file is what nncase compiled for the chip, and behind it a description of its layers. Its bytes have the
    integers and factors that were asked for, and on a few images the chip's simulator has answered like the float
    network. The description is returned, once it is proven.
    """
    spec = taken(NNCASE, quant, learned)
    install(NNCASE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = for_one_image(tidy(float_model(network, victim, folder)), OPSET, IR_VERSION)
        asked: Asked = {
            "calibration": METHODS.get(spec.calibration, "NoClip"),
            "ranges": {},
            "unsigned": _depthwise(model),
            "held": HELD,
        }
        if spec.calibration not in METHODS:
            asked["ranges"] = dict(_ranges(folder, model, pixels, spec))
        np.save(folder / "images.npy", calibration_images(pixels, spec))
        made = _compiled(folder, model, asked, victim)
        build = nncase_dump.layers(folder / DUMP, made.ranges)
        require_constants(path, made.content, model, nncase_dump.spans(folder / DUMP), made.ranges)
        if not cosine(made.answers, in_float(model, pixels, spec, HELD)) >= LIKE_FLOAT:
            asked["ranges"] = made.ranges
            require_answers(path, NNCASE, [_first_unlike(folder, model, asked, victim, pixels, spec)])
        path.write_bytes(made.content)
        nncase.append(path, build)
    return require_integer(path, spec.allow_float)


def _depthwise(model: Any) -> list[str]:
    """Return the names of the weights of depthwise convolutions: of many groups, each of one channel."""
    of_one = {one.name for one in model.graph.initializer if len(one.dims) > 1 and one.dims[1] == 1}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in of_one]
    return [node.input[1] for node in convolutions for one in node.attribute if one.name == "group" and one.i > 1]


def _ranges(folder: Path, model: Any, pixels: Pixels, quant: QuantSpec) -> Mapping[str, Range]:
    """Return our ranges, by the names that nncase keeps."""
    import onnx

    onnx.save(model, folder / "float.onnx")
    return ranges_of(describe(folder / "float.onnx"), model, pixels, quant)


def _compiled(folder: Path, model: Any, asked: Asked, victim: Victim) -> _Compiled:
    """Run the program that compiles and simulates; a failure is a `UserError` with nncase's reason."""
    import onnx

    onnx.save(model, folder / GIVEN)
    (folder / ASKED).write_text(json.dumps(asked))
    packages = environments.packages(environments.pinned(NNCASE.package))
    variables = {
        "DOTNET_ROOT": str(packages / "dnv/net/runtime/.net"),
        "DOTNET_ROLL_FORWARD": "Major",
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",  # else it asks for a library of languages
        "NNCASE_PLUGIN_PATH": str(packages / "nncase/modules/kpu"),
    }
    run_in_environment("exporters.nncase_build", NNCASE, folder, victim, variables)
    ranges: dict[str, Range] = typed(dict[str, tuple[float, float]], read_json(folder / ANSWER), ANSWER)
    answers = map_npy(folder / SIMULATED, Expected((np.float32,), (asked["held"], *[None] * _axes(model))))
    return _Compiled((folder / FILE).read_bytes(), ranges, np.array(answers))


def _axes(model: Any) -> int:
    """Return how many axes the output has behind the batch."""
    return len(model.graph.output[0].type.tensor_type.shape.dim) - 1


def _first_unlike(
    folder: Path, model: Any, asked: Asked, victim: Victim, pixels: Pixels, quant: QuantSpec
) -> tuple[str, float]:
    """Return the first layer whose simulation is not like the float network's, and its cosine.

    Networks that end at a layer are compiled, and simulated, by bisection.
    """
    from onnx.utils import Extractor

    names = [name for node in model.graph.node for name in node.output if name in asked["ranges"]]
    (pixel_input,) = (one.name for one in model.graph.input)
    cosines: dict[int, float] = {}
    low, high = 0, len(names) - 1
    while low < high:
        middle = (low + high) // 2
        cut = Extractor(model).extract_model([pixel_input], [names[middle]])
        made = _compiled(folder, cut, asked, victim)
        cosines[middle] = cosine(made.answers, in_float(model, pixels, quant, HELD, names[middle]))
        low, high = (middle + 1, high) if cosines[middle] >= LIKE_FLOAT else (low, middle)
    return names[low], cosines.get(low, 0.0)
