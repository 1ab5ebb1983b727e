"""Write a network for Rockchip's RK3588 (``.rknn``), by its rknn-toolkit2."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from backends.device import rknn
from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.json_types import typed
from backends.device.reading import Expected, map_npy, read_json
from backends.device.toolchains import RKNN
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.onnx_float import float_model, ranges_of
from exporters.onnx_graph import tidy
from exporters.ranges import Learned
from exporters.rknn_build import ANSWER, ASKED, FILE, GIVEN, GOLDEN, Asked, Seen
from exporters.rknn_proof import require_grids
from exporters.toolchains import (
    calibration_images,
    for_one_image,
    in_float,
    install,
    require_answers,
    require_floats,
    run_in_environment,
    taken,
)
from exporters.victim import Victim

LAYOUT: Layout = "nchw"
OPSET, IR_VERSION = 19, 9  # of ONNX, as the toolkit reads it
HELD = 8  # images


@dataclass(frozen=True)
class Built:
    """What the toolkit built: ranges and layers, and how its simulation answered the first images."""

    build: rknn.Build
    seen: list[Seen]


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description:
    """Write the network to ``path``: from one image, float32 ``(1, 3, h, w)`` in [0, 1], to logits.

    The file is what the toolkit compiled for the chip, and behind it what its simulation is built of. On a few images
    that simulation has answered layer by layer, near the float network and on the steps of the ranges that were asked
    for. Its description is returned, once it is proven.
    """
    import onnx

    spec = taken(RKNN, quant, learned)
    install(RKNN)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tidy(float_model(network, victim, folder))
        onnx.save(for_one_image(model, OPSET, IR_VERSION), folder / GIVEN)
        images = calibration_images(pixels, spec)
        np.save(folder / "images.npy", images)
        asked: Asked = {"calibration": spec.calibration, "ranges": {}, "held": HELD}
        if spec.calibration not in RKNN.calibrations:
            onnx.save(model, folder / "float.onnx")
            asked |= {
                "calibration": "",
                "ranges": dict(ranges_of(describe(folder / "float.onnx"), model, pixels, spec)),
            }
        (folder / ASKED).write_text(json.dumps(asked))
        run_in_environment("exporters.rknn_build", RKNN, folder, victim)
        built: Built = typed(Built, read_json(folder / ANSWER), ANSWER)
        golden = map_npy(folder / GOLDEN, Expected((np.float32,), (None, None)))
        require_floats(path, RKNN, golden, in_float(model, pixels, spec, HELD))
        require_answers(path, RKNN, ((one.layer, one.cosine) for one in built.seen))
        require_grids(path, built.build.ranges, built.seen, _added(model))
        path.write_bytes((folder / FILE).read_bytes())
        rknn.append(path, (folder / GIVEN).read_bytes(), built.build)
    return require_integer(path, spec.allow_float)


def _added(model: Any) -> set[str]:
    """Return the activations that only a sum takes."""
    takers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node.op_type)
    return {name for name, operators in takers.items() if operators == ["Add"]}
