"""Exported files against torch, the runtimes, and the quantizers' own calibrators."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers import small_networks as small
from helpers.command import environ
from helpers.scales import activation_ranges
from helpers.small_networks import CALIBRATIONS, FORMATS, PIXELS, SPEC, write
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import EntropyCalibrater, MinMaxCalibrater, PercentileCalibrater
from torch import nn
from torch.nn import functional

from backends.device.artifact import Artifact, sha256_file
from backends.device.errors import UserError
from exporters.calibration import collector
from exporters.files import describe
from exporters.onnx_float import float_model, run
from exporters.proof import require_scales
from exporters.ranges import resolve, to_collect, weights


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {"resnet": small.resnet(), "branches": small.branches()}


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["resnet", "branches"])
def test_float_files_compute_what_torch_does(networks, exported, name, format):
    path = exported(name, format, None)
    assert np.abs(small.file_logits(path, PIXELS) - small.torch_logits(networks[name], PIXELS)).max() < 1e-4
    artifact = Artifact.read(path.with_suffix(".json"))
    assert (artifact.file, artifact.sha256, artifact.precision) == (path.name, sha256_file(path), "fp32")
    assert artifact.preproc.layout == {"onnx": "nchw", "tflite": "nhwc"}[format]
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(["net.json", path.name])


@pytest.mark.slow
@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("name", ["resnet", "branches"])
def test_one_spec_gives_both_formats_the_same_ranges(networks, tmp_path, name, calibration):
    quant = replace(SPEC, calibration=calibration, calibration_batch=3)
    compared = []
    for format in FORMATS:
        path = write(tmp_path, networks[name], format, quant)
        description, found = describe(path), activation_ranges(path)
        assert found[description.inputs[0].name] == pytest.approx((0, 1), abs=1e-6)
        kinds = ("Conv", "CONV_2D", "DEPTHWISE_CONV_2D", "Mul", "MUL", "Add", "ADD", "Gemm", "FULLY_CONNECTED")
        outputs = [
            o.outputs[0].name.removesuffix("_QuantizeLinear_Input") for o in description.operators if o.name in kinds
        ]
        compared.append([found[name] for name in outputs])
        logits = small.file_logits(path, PIXELS)
        assert np.corrcoef(logits.ravel(), small.torch_logits(networks[name], PIXELS).ravel())[0, 1] > 0.97
    assert len(compared[0]) == len(compared[1]) > 5
    widths = [high - low for low, high in compared[0]]
    off = np.abs(np.subtract(*compared)).max(axis=1) / widths
    assert off.max() < 0.001


@pytest.mark.slow
def test_ranges_of_minmax_are_those_of_torch(networks, exported):
    network = networks["resnet"]
    logits = small.torch_logits(network, PIXELS[: SPEC.calibration_images])
    with torch.no_grad():
        normalised = small.as_input(PIXELS[: SPEC.calibration_images]) * network.scale + network.shift
    for format, names in (("onnx", ("add", "logits")), ("tflite", ("Normalised", "output_0"))):
        found = activation_ranges(exported("resnet", format))
        step = max(np.ptp(logits), float(normalised.max() - normalised.min())) / 255
        end = found[next(name for name in found if names[1] in name)]
        assert end == pytest.approx((logits.min(), logits.max()), abs=step)
        first = list(found.values())[2]  # pixels, their product, and the sum
        assert first == pytest.approx((float(normalised.min()), float(normalised.max())), abs=step)


@pytest.mark.slow
def test_the_whole_network_is_integer(exported):
    onnx = describe(exported("resnet", "onnx")).counts
    # Seven convolutions; three sums of shortcuts and that of the normalisation; the edges and nothing else in float.
    assert onnx == {
        "QLinearConv": 7, "QLinearAdd": 4, "Slice": 4, "Pad": 2, "QuantizeLinear": 1, "QLinearMul": 1,
        "QLinearGlobalAveragePool": 1, "Reshape": 1, "QGemm": 1, "DequantizeLinear": 1,
    }  # fmt: skip
    tflite = describe(exported("resnet", "tflite"))
    assert tflite.counts == {
        "CONV_2D": 7, "ADD": 4, "STRIDED_SLICE": 4, "PAD": 4, "MUL": 1, "TRANSPOSE": 1, "MEAN": 1, "FULLY_CONNECTED": 1,
    }  # fmt: skip
    dtypes = {t.dtype for o in tflite.operators for t in (*o.inputs, *o.outputs) if t.scale}
    assert dtypes == {"int8", "int32"}
    assert (tflite.inputs[0].dtype, tflite.outputs[0].dtype) == ("int8", "int8")
    onnx = describe(exported("branches", "onnx")).counts
    assert onnx["QLinearConcat"] == onnx["MaxPool"] == onnx["QLinearGlobalAveragePool"] == 1
    tflite = describe(exported("branches", "tflite")).counts
    assert tflite["CONCATENATION"] == tflite["MAX_POOL_2D"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_signatures_differ_by_128_and_nothing_else(exported, per_channel, symmetric):
    spec = replace(SPEC, per_channel=per_channel, symmetric_activations=symmetric)
    files = {}
    for signature in ("s8s8", "u8s8", "u8u8"):
        quant = replace(spec, activation_signed=signature[0] == "s", weight_signed=signature[2] == "s")
        files[signature] = describe(exported("resnet", "onnx", quant))
    convolutions = {k: [o for o in d.operators if o.name == "Conv"] for k, d in files.items()}
    raw = {k: [o for o in d.operators if o.name == "DequantizeLinear"] for k, d in files.items()}
    for a, b, c in zip(*convolutions.values(), strict=True):
        assert (a.outputs[0].integers, b.outputs[0].integers, c.outputs[0].integers) == ("int8", "uint8", "uint8")
        assert a.outputs[0].scale == b.outputs[0].scale == c.outputs[0].scale
        assert a.outputs[0].zero_point[0] + 128 == b.outputs[0].zero_point[0] == c.outputs[0].zero_point[0]
        assert a.inputs[1].scale == c.inputs[1].scale
        assert set(c.inputs[1].zero_point) == {128}
        assert len(a.inputs[1].scale) == (a.inputs[1].shape[0] if per_channel else 1)
        assert not symmetric or a.outputs[0].zero_point == (0,)
    for a, c in zip(raw["s8s8"], raw["u8u8"], strict=True):
        if a.inputs[0].values is not None and a.inputs[0].dtype == "int8":
            assert np.array_equal(a.inputs[0].values.astype(int) + 128, c.inputs[0].values)
            assert np.abs(a.inputs[0].values.astype(int)).max() <= 128


class Batches(CalibrationDataReader):
    """One batch a call, so that a calibrator sees what ours sees when it sees it."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.batch = {"pixels": small.as_input(pixels).numpy()}

    def get_next(self):
        batch, self.batch = self.batch, None
        return batch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calibration", "theirs", "options"),
    [
        ("minmax", MinMaxCalibrater, {}),
        ("percentile", PercentileCalibrater, {"percentile": 99.9}),
        ("entropy", EntropyCalibrater, {}),
    ],
)
def test_statistics_are_those_of_onnxruntimes_calibrators(networks, tmp_path, calibration, theirs, options):
    import onnx

    model = float_model(networks["resnet"], small.victim(), tmp_path)
    onnx.save(model, tmp_path / "float.onnx")
    quant = replace(SPEC, calibration=calibration, percentile=99.9, calibration_batch=4)
    calibrator = theirs(tmp_path / "float.onnx", augmented_model_path=str(tmp_path / "augmented.onnx"), **options)
    calibrator.augment_graph()
    calibrator.create_inference_session()
    for start in range(0, quant.calibration_images, quant.calibration_batch):
        calibrator.collect_data(Batches(PIXELS[start : start + quant.calibration_batch]))
    expected = calibrator.compute_data()
    description = describe(tmp_path / "float.onnx")
    statistic = collector(quant)
    for batch in run(model, to_collect(description), PIXELS, quant):
        statistic.feed(batch)
    found = statistic.ranges()
    assert len(found) > 10
    for name, (low, high) in found.items():
        assert (low, high) == pytest.approx([np.asarray(v).item() for v in expected[name].range_value], rel=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_export_gives_the_same_bytes(networks, exported, tmp_path, format):
    assert write(tmp_path, networks["resnet"], format).read_bytes() == exported("resnet", format).read_bytes()


@pytest.mark.slow
def test_other_processes_give_the_same_bytes(tmp_path):
    """Sets are ordered differently there, and names are counted anew."""
    script = (
        "import sys; from pathlib import Path\n"
        "from backends.device.artifact import sha256_file; from helpers import small_networks as s\n"
        "for f in s.FORMATS: print(sha256_file(s.write(Path(sys.argv[1]), s.branches(), f)))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)],
            env=environ(PYTHONHASHSEED=seed, PYTHONPATH=str(ROOT / "tests")),
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.split()) == 2  # and nothing else was said
    assert runs[0].stderr == ""


@pytest.mark.slow
def test_another_range_or_weight_is_noticed(exported):
    path = exported("resnet", "onnx", None)
    network = describe(path)
    statistic = collector(SPEC)
    import onnx

    for batch in run(onnx.load(path), to_collect(network), PIXELS, SPEC):
        statistic.feed(batch)
    ranges = resolve(network, statistic.ranges())
    scales = weights(network, ranges, SPEC)
    file = describe(exported("resnet", "onnx"))
    require_scales(file, ranges, scales, SPEC)
    changed = next(n for n in ranges if "relu" in n)
    with pytest.raises(UserError, match=f"scale of '{changed}' is not what its QuantSpec implies"):
        require_scales(file, ranges | {changed: (0.0, ranges[changed][1] * 1.01)}, scales, SPEC)
    name, (values, axis) = next(iter(scales.items()))
    with pytest.raises(UserError, match=f"scale of '{name}'"):
        require_scales(file, ranges, scales | {name: type(scales[name])(values * 1.01, axis)}, SPEC)
    with pytest.raises(UserError, match="skipped the weights"):
        require_scales(file, ranges, scales | {"absent": scales[name]}, SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": "torchscript"},
            "expected the format onnx, tflite, pte, bmodel, cvimodel, rknn, kmodel, espdl, got 'torchscript'",
        ),
        ({"format": "tflite", "quant": replace(SPEC, activation_signed=False)}, "integers are signed, got u8s8"),
        ({"quant": replace(SPEC, activation_bits=4)}, "expected w2a8 to w8a8, got w8a4"),
        (
            {"calibration_pixels": small.pixels(4, 8)},
            r"expected calibration pixels \(n, 16, 16, 3\), got \(4, 8, 8, 3\)",
        ),
    ],
)
def test_impossible_wishes_are_errors(tmp_path, changes, message):
    arguments = {"format": "onnx", "quant": SPEC} | changes
    with pytest.raises(UserError, match=message):
        write(tmp_path, small.Around(functional.relu).eval(), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_network_in_training_is_an_error(tmp_path):
    with pytest.raises(UserError, match="eval mode"):
        write(tmp_path, small.Around(functional.relu), "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("signature", ["u8s8", "s8s8", "u8u8"])
def test_the_graph_that_a_replay_runs_is_integer_as_the_proof_says(exported, tmp_path, monkeypatch, signature):
    """By the very session options that the device side uses: its options and the proof's are set in two places."""
    import onnx
    import onnxruntime

    from backends.device.runtimes.onnxruntime import Engine

    quant = replace(SPEC, activation_signed=signature[0] == "s", weight_signed=signature[2] == "s")
    path = exported("resnet", "onnx", quant)
    used, real = [], onnxruntime.InferenceSession

    def watched(file, options, **others):
        used.append(options)
        return real(file, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    Engine().load(path, {}, 1)
    (options,) = used
    options.optimized_model_filepath = str(tmp_path / "replayed.onnx")
    real(path, options, providers=["CPUExecutionProvider"])
    replayed = Counter(node.op_type for node in onnx.load(tmp_path / "replayed.onnx").graph.node)
    assert replayed["QLinearConv"] == describe(path).counts["QLinearConv"] > 0
    assert not {"Conv", "FusedConv", "Add", "Mul", "Relu", "Gemm", "MatMul", "GlobalAveragePool"} & set(replayed)
