"""Write a network for Espressif's ESP32-P4 (``.espdl``), by its quantizer esp-ppq."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from backends.device import esp_ppq
from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.json_types import typed
from backends.device.reading import Expected, map_npy, read_json
from backends.device.toolchains import ESP_PPQ
from exporters.calibration import Range, activation_affine
from exporters.esp_ppq_build import ANSWER, ASKED, FILE, GOLDEN, Asked
from exporters.esp_ppq_proof import require_asked, require_computable, require_simulated, require_weights
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.onnx_float import float_model, ranges_of
from exporters.onnx_graph import tidy
from exporters.ranges import Learned
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
OPSET, IR_VERSION = 18, 8  # of ONNX, as esp-ppq reads it
HELD = 32  # images


@dataclass(frozen=True)
class Built:
    """What esp-ppq built, the exponents that its simulation has, and the cosine of each layer to float."""

    build: esp_ppq.Build
    simulated: dict[str, tuple[int, ...]]
    cosines: list[tuple[str, float]]


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description:
    """Write the network to ``path``: from one image, float32 ``(1, 3, h, w)`` in [0, 1], to logits, as integers.

    The file is what ESP-DL executes on the chip, and behind it what esp-ppq's simulation is built of. The file has the
    scales of that simulation, and those that were asked for, which are rounded up to powers of two; on a few dozen
    images every layer is near the float network's. Its description is returned, once it is proven.
    """
    import onnx

    spec = taken(ESP_PPQ, quant, learned)
    install(ESP_PPQ)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tidy(float_model(network, victim, folder))
        onnx.save(for_one_image(model, OPSET, IR_VERSION), folder / esp_ppq.NETWORK)
        images = calibration_images(pixels, spec)
        np.save(folder / "images.npy", images)
        onnx.save(model, folder / "float.onnx")
        floats = describe(folder / "float.onnx")
        asked: Asked = {"calibration": spec.calibration, "exponents": {}, "held": HELD}
        if spec.calibration not in ESP_PPQ.calibrations:
            ranges = ranges_of(floats, model, pixels, spec)
            asked |= {"calibration": "", "exponents": _exponents(ranges, spec)}
        (folder / ASKED).write_text(json.dumps(asked))
        run_in_environment("exporters.esp_ppq_build", ESP_PPQ, folder, victim)
        built: Built = typed(Built, read_json(folder / ANSWER), ANSWER)
        golden = map_npy(folder / GOLDEN, Expected((np.float32,), (None, None)))
        require_floats(path, ESP_PPQ, golden, in_float(model, pixels, spec, len(golden)))
        require_answers(path, ESP_PPQ, built.cosines)
        path.write_bytes((folder / FILE).read_bytes())
        esp_ppq.append(path, (folder / esp_ppq.NETWORK).read_bytes(), built.build)
    file = require_integer(path, spec.allow_float)
    graph = esp_ppq.read(path)
    require_computable(path, graph)
    require_simulated(path, graph, built.simulated)
    require_weights(path, graph, floats)
    if asked["exponents"]:
        require_asked(path, graph, asked["exponents"])
    return file


def _exponents(ranges: Mapping[str, Range], spec: QuantSpec) -> dict[str, int]:
    """Return the exponent of each range's scale, rounded up to a power of two."""
    return {name: math.ceil(math.log2(activation_affine(name, span, spec).scale)) for name, span in ranges.items()}
