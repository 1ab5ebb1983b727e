"""Each export, read by every runtime that reads its format: they agree to a few steps of the output."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import small_networks as small
from helpers.cpu import exact_sums
from helpers.elsewhere import Elsewhere

from backends.device.artifact import Artifact
from backends.device.runtimes import engine, prepare, real
from exporters.files import describe

pytestmark = [pytest.mark.slow, exact_sums]
PIXELS = small.pixels(24, seed=1)
READERS = {"onnx": ["onnxruntime", "openvino"], "tflite": ["litert", "tflite_micro", "openvino", "tosa"]}
OPTIONS = {"openvino": {"float_layers": "allowed"}}
SPECS = {"float": None, "s8s8": small.SPEC, "u8s8": replace(small.SPEC, activation_signed=False)}
EXPORTS = [(spec, format) for spec in SPECS for format in small.FORMATS if (spec, format) != ("u8s8", "tflite")]
# OpenVINO 2026.4.1 miscomputes a convolution after a concatenation of int8, and not after one of uint8
WRONG = ("s8s8", "onnx", "branches", "openvino")


def answers(runtime, file):
    reader = engine(runtime)() if runtime in ("onnxruntime", "litert") else Elsewhere(runtime)
    reader.load(file, OPTIONS.get(runtime, {}), 1)
    x = Artifact.read(file.with_suffix(".json")).preproc(PIXELS)
    return real(reader.output, reader.run(prepare(reader.input, x, file)))


@pytest.mark.parametrize("name", ["resnet", "branches"])
@pytest.mark.parametrize(("spec", "format"), EXPORTS)
def test_every_reader_of_an_export_computes_the_same(exported, spec, format, name):
    file = exported(name, format, SPECS[spec])
    first, *others = READERS[format]
    if SPECS[spec] is None:
        others = [other for other in others if not getattr(engine(other), "integers_only", False)]
    expected = answers(first, file)
    step = describe(file).outputs[0].scale[0] if SPECS[spec] else 1e-5
    for other in others:
        steps = np.abs(answers(other, file) - expected).max() / step
        if (spec, format, name, other) == WRONG:
            assert steps > 2.1, "OpenVINO is right by now: findings/targets.md says that it is not"
        else:
            assert steps < 2.1, other
