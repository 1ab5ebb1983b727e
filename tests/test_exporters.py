"""Exported files against torch, the runtimes, and the quantizers' own calibrators."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import EntropyCalibrater, MinMaxCalibrater, PercentileCalibrater
from torch import nn
from torch.nn import functional

from exporters import export
from exporters.files import activation_ranges, describe
from exporters.onnx_qdq import _float_model, run
from exporters.proof import require_scales
from exporters.ranges import resolve, to_collect, weights
from harness.calibration import collector
from harness.networks import build
from harness.schema import Artifact, QuantSpec, UserError, sha256_file
from harness.torchvision_import import import_torchvision
from harness.victims import Normalised
from harness.weights import fit_to, read_weights
from tests import small_networks as small

SPEC = QuantSpec(calibration_images=16)
FORMATS = ("onnx", "tflite")
CALIBRATIONS = ("minmax", "moving_average", "percentile", "entropy")
PIXELS = small.pixels(48)


def write(folder: Path, network: nn.Module, format: str, quant: QuantSpec | None = SPEC, **changes) -> Path:
    arguments = {"name": "net", "victim": small.victim(), "calibration_pixels": PIXELS} | changes
    artifact = export(network, format=format, quant=quant, folder=folder, **arguments)
    return folder / artifact.file


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {"resnet": small.resnet(), "branches": small.branches()}


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["resnet", "branches"])
def test_float_files_compute_what_torch_does(networks, tmp_path, name, format):
    path = write(tmp_path, networks[name], format, None)
    assert np.abs(small.file_logits(path, PIXELS) - small.torch_logits(networks[name], PIXELS)).max() < 1e-4
    artifact = Artifact.read(tmp_path / "net.json")
    assert (artifact.file, artifact.sha256, artifact.precision) == (path.name, sha256_file(path), "fp32")
    assert artifact.preproc.layout == {"onnx": "nchw", "tflite": "nhwc"}[format]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["net.json", path.name])


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
def test_ranges_of_minmax_are_those_of_torch(networks, tmp_path):
    network = networks["resnet"]
    logits = small.torch_logits(network, PIXELS[: SPEC.calibration_images])
    with torch.no_grad():
        normalised = small.as_input(PIXELS[: SPEC.calibration_images]) * network.scale + network.shift
    for format, names in (("onnx", ("add", "logits")), ("tflite", ("Normalised", "output_0"))):
        path = write(tmp_path, network, format)
        found = activation_ranges(path)
        step = max(np.ptp(logits), float(normalised.max() - normalised.min())) / 255
        end = found[next(name for name in found if names[1] in name)]
        assert end == pytest.approx((logits.min(), logits.max()), abs=step)
        first = list(found.values())[2]  # pixels, their product, and the sum
        assert first == pytest.approx((float(normalised.min()), float(normalised.max())), abs=step)


@pytest.mark.slow
def test_the_whole_network_is_integer(networks, tmp_path):
    onnx = describe(write(tmp_path, networks["resnet"], "onnx")).counts
    # Seven convolutions; three sums of shortcuts and that of the normalisation; the edges and nothing else in float.
    assert onnx == {
        "QLinearConv": 7, "QLinearAdd": 4, "Slice": 4, "Pad": 2, "QuantizeLinear": 1, "QLinearMul": 1,
        "QLinearGlobalAveragePool": 1, "Reshape": 1, "QGemm": 1, "DequantizeLinear": 1,
    }  # fmt: skip
    tflite = describe(write(tmp_path, networks["resnet"], "tflite"))
    assert tflite.counts == {
        "CONV_2D": 7, "ADD": 4, "STRIDED_SLICE": 4, "PAD": 4, "MUL": 1, "TRANSPOSE": 1, "MEAN": 1, "FULLY_CONNECTED": 1,
    }  # fmt: skip
    dtypes = {t.dtype for o in tflite.operators for t in (*o.inputs, *o.outputs) if t.scale}
    assert dtypes == {"int8", "int32"}
    assert (tflite.inputs[0].dtype, tflite.outputs[0].dtype) == ("int8", "int8")
    onnx = describe(write(tmp_path, networks["branches"], "onnx")).counts
    assert onnx["QLinearConcat"] == onnx["MaxPool"] == onnx["QLinearGlobalAveragePool"] == 1
    tflite = describe(write(tmp_path, networks["branches"], "tflite")).counts
    assert tflite["CONCATENATION"] == tflite["MAX_POOL_2D"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_signatures_differ_by_128_and_nothing_else(networks, tmp_path, per_channel, symmetric):
    spec = replace(SPEC, per_channel=per_channel, symmetric_activations=symmetric)
    files = {}
    for signature in ("s8s8", "u8s8", "u8u8"):
        quant = replace(spec, activation_signed=signature[0] == "s", weight_signed=signature[2] == "s")
        files[signature] = describe(write(tmp_path, networks["resnet"], "onnx", quant))
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

    model = _float_model(networks["resnet"], small.victim(), tmp_path)
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
def test_the_same_export_gives_the_same_bytes(networks, tmp_path, format):
    assert write(tmp_path / "a", networks["resnet"], format).read_bytes() == (
        write(tmp_path / "b", networks["resnet"], format).read_bytes()
    )


@pytest.mark.slow
def test_other_processes_give_the_same_bytes(tmp_path):
    """Sets are ordered differently there, and names are counted anew."""
    script = (
        "import sys; from pathlib import Path; from tests import test_exporters as t, small_networks as s\n"
        "for f in t.FORMATS: print(t.sha256_file(t.write(Path(sys.argv[1]), s.branches(), f)))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed},
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
def test_another_range_or_weight_is_noticed(networks, tmp_path):
    write(tmp_path, networks["resnet"], "onnx", None)
    network = describe(tmp_path / "net.onnx")
    statistic = collector(SPEC)
    import onnx

    for batch in run(onnx.load(tmp_path / "net.onnx"), to_collect(network), PIXELS, SPEC):
        statistic.feed(batch)
    ranges = resolve(network, statistic.ranges())
    scales = weights(network, ranges, SPEC)
    file = describe(write(tmp_path, networks["resnet"], "onnx"))
    require_scales(file, ranges, scales, SPEC)
    changed = next(n for n in ranges if "relu" in n)
    with pytest.raises(UserError, match=f"scale of '{changed}' is not what its QuantSpec implies"):
        require_scales(file, ranges | {changed: (0.0, ranges[changed][1] * 1.01)}, scales, SPEC)
    name, (values, axis) = next(iter(scales.items()))
    with pytest.raises(UserError, match=f"scale of '{name}'"):
        require_scales(file, ranges, scales | {name: type(scales[name])(values * 1.01, axis)}, SPEC)
    with pytest.raises(UserError, match="left out the weights"):
        require_scales(file, ranges, scales | {"absent": scales[name]}, SPEC)


FUNCTIONS = {
    "relu after pooling": lambda x: functional.relu(functional.max_pool2d(x, 2)),
    "relu used beside its input": lambda x: functional.relu(x) + x,
    "batch normalisation alone": nn.BatchNorm2d(8).eval(),
    "subtraction and division": lambda x: (x - 0.1) / 0.3,
    "relu6": functional.relu6,
    "hard swish": functional.hardswish,
    "swish": functional.silu,
    "leaky": nn.LeakyReLU(0.3),
    "parts joined twice": lambda x: torch.cat([a := functional.relu(x), torch.cat([a, x], 1)], 1)[:, 4:12],
    "padding": lambda x: functional.pad(functional.relu(x), (1, 1, 1, 1))[:, :, ::2],
    "average": lambda x: functional.avg_pool2d(x, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_keep_their_meaning(tmp_path, name, format, symmetric):
    network = small.Around(FUNCTIONS[name]).eval()
    quant = replace(SPEC, calibration_images=len(PIXELS), symmetric_activations=symmetric)
    if (name, format) == ("leaky", "tflite") or (name, format, symmetric) == ("swish", "tflite", True):
        with pytest.raises(UserError, match=r"1 LEAKY_RELU|is not what its QuantSpec implies"):
            write(tmp_path, network, format, quant)
        return
    logits = small.torch_logits(network, PIXELS)
    path = write(tmp_path, network, format, quant)
    error = np.abs(small.file_logits(path, PIXELS) - logits).max()
    assert error < (0.08 if symmetric else 0.04) * np.ptp(logits)


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_channel_that_is_all_bias_keeps_it(tmp_path, format, per_channel):
    network = small.Around(functional.relu).eval()
    with torch.no_grad():
        network.convolution.weight[0] *= 1e-8
        network.convolution.bias[0] = 0.5
        network.convolution.weight[1] = network.convolution.bias[1] = 0
    logits = small.torch_logits(network, PIXELS)
    quant = replace(SPEC, calibration_images=len(PIXELS), per_channel=per_channel)
    assert np.abs(small.file_logits(write(tmp_path, network, format, quant), PIXELS) - logits).max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "format", "message"),
    [
        (torch.erf, "onnx", "1 operators compute in float: 1 Erf"),
        (torch.erf, "tflite", "compute in float"),
        (lambda x: x * 0, "onnx", "is the network trained"),
        (lambda x: x * 0, "tflite", "is the network trained"),
        (lambda x: x.reshape(2, 8, 8, 8), "onnx", "one batch size only"),
        (lambda x: x.reshape(2, 8, 8, 8), "tflite", "litert-torch cannot convert"),
        (lambda x: x if x.sum() > 0 else -x, "onnx", "torch cannot export"),
        (lambda x: x / 0, "onnx", "infinite or not a number"),
    ],
)
def test_what_cannot_be_integer_is_named_and_leaves_nothing(tmp_path, function, format, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, small.Around(function).eval(), format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "torchscript"}, "expected the format onnx or tflite, got 'torchscript'"),
        ({"format": "tflite", "quant": replace(SPEC, activation_signed=False)}, "integers are signed, got u8s8"),
        ({"quant": replace(SPEC, weight_bits=4)}, "expected 8 bits for weights and activations, got w4a8"),
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
    with pytest.raises(UserError, match="evaluation mode"):
        write(tmp_path, small.Around(functional.relu), "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_an_untrained_mobilenet_is_an_error(tmp_path, format):
    torch.manual_seed(0)
    network = import_torchvision().models.mobilenet_v2(num_classes=10).eval()
    with pytest.raises(UserError, match="trained"):
        write(tmp_path, network, format, calibration_pixels=small.pixels(16, 64), victim=small.victim(size=64))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_mobilenet_is_integer(tmp_path, format):
    torch.manual_seed(0)
    bare = import_torchvision().models.mobilenet_v2(num_classes=10)
    images = small.pixels(32, 64)
    network = small.settled(Normalised(bare, small.MEAN, small.STD), images)
    path = write(tmp_path, network, format, calibration_pixels=images, victim=small.victim(size=64))
    counts = describe(path).counts
    assert counts.get("QLinearConv", 0) + counts.get("CONV_2D", 0) + counts.get("DEPTHWISE_CONV_2D", 0) == 52
    assert not any("float" in name for name in counts)


@pytest.fixture(scope="module")
def cifar(data_dir):
    with np.load(data_dir / "cifar10" / "cifar10.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def cifar_resnet(data_dir: Path, depth: int) -> nn.Module:
    network = build(f"resnet{depth}", 10)
    file = data_dir / "cifar10" / f"resnet{depth}.th"
    network.load_state_dict(fit_to(network, read_weights(file), file))
    return Normalised(network, small.MEAN, small.STD).eval()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("depth", "accuracy"), [(20, 0.915), (56, 0.926)])
def test_cifar_resnets_keep_their_accuracy(cifar, data_dir, tmp_path, depth, accuracy):
    network, images, labels = cifar_resnet(data_dir, depth), cifar["x_test"], cifar["y_test"]
    expected = small.torch_logits(network, images)
    assert (expected.argmax(1) == labels).mean() == pytest.approx(accuracy, abs=0.002)
    changes = {"victim": small.victim(size=32), "calibration_pixels": cifar["x_train"]}
    for format in FORMATS:
        logits = small.file_logits(write(tmp_path, network, format, None, **changes), images)
        assert np.abs(logits - expected).max() < 1e-4
        for calibration in CALIBRATIONS if depth == 20 else CALIBRATIONS[:2]:
            path = write(tmp_path, network, format, QuantSpec(calibration=calibration), **changes)
            found = small.file_logits(path, images).argmax(1)
            assert (found == labels).mean() == pytest.approx(accuracy, abs=0.015), (format, calibration)


@pytest.mark.slow
@pytest.mark.data
def test_squeezenet_is_integer_in_both_formats(data_dir, tmp_path):
    from PIL import Image

    files = sorted((data_dir / "imagenet" / "images").glob("*.JPEG"))[::40]
    images = np.stack([np.asarray(Image.open(f).convert("RGB").resize((227, 227))) for f in files])
    network = import_torchvision().models.squeezenet1_0()
    network.load_state_dict(torch.load(data_dir / "imagenet" / "squeezenet1_0.pth", weights_only=True))
    first = network.features[0].weight
    first.data = first.data.flip(1)  # the file's channels are BGR
    network = Normalised(network, (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3).eval()
    expected = small.torch_logits(network, images)
    changes = {"victim": small.victim("squeezenet", 227, 1000), "calibration_pixels": images}
    for format in FORMATS:
        assert (
            np.abs(small.file_logits(write(tmp_path, network, format, None, **changes), images) - expected).max() < 1e-3
        )
        path = write(tmp_path, network, format, replace(SPEC, calibration_images=len(images)), **changes)
        assert (small.file_logits(path, images).argmax(1) == expected.argmax(1)).mean() > 0.85
        counts = describe(path).counts
        assert counts.get("QLinearConv", counts.get("CONV_2D")) == 26
        assert counts.get("QLinearConcat", counts.get("CONCATENATION")) == 8
