"""Preprocessing against the range that a file's input holds: misfits are told with what would fit, fits are not."""

import re
import tomllib
from pathlib import Path

import onnx
import pytest
from helpers import tiny
from helpers.quantized_onnx import quantized

from backends.device.artifact import Preproc
from backends.device.runtimes import onnxruntime
from exporters.files import describe
from exporters.files.description import Description, Tensor
from exporters.files.image_input import guess_preproc
from exporters.files.input_range import held, misfit

SUITES = Path(__file__).parents[2] / "harness" / "suites"
CENTRED = Preproc(mean=(0.5,) * 3, std=(0.25,) * 3)
IMAGENET = Preproc(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def file_with(scale: float, zero_point: int, dtype: str = "int8", integers: str | None = None) -> Description:
    entry = Tensor("pixels", dtype, (1, 3, 8, 8), (scale,), (zero_point,), integers=integers)
    return Description(Path("own.onnx"), "onnx", (), (), (entry,), (entry,))


@pytest.mark.parametrize(
    ("file", "preproc", "says"),
    [
        (file_with(1 / 255, -128), CENTRED, "preprocessing sends -2 to 2, .* hold 0 to 1; divisor = 255 without mean"),
        (file_with(1.0, -128), Preproc(), "sends 0 to 1, .* hold 0 to 255; divisor = 1 without mean and std would fit"),
        (file_with(4 / 255, 0, "float32", "int8"), Preproc(), "hold -2.01 to 1.99; mean = 0.502 and std = 0.25 would"),
        (file_with(1 / 128, 128, "uint8"), Preproc(), "hold -1 to 0.992; mean = 0.502 and std = 0.502 would fit"),
    ],
)
def test_a_misfit_is_told_with_what_would_fit(file: Description, preproc: Preproc, says: str) -> None:
    assert re.search(says, misfit(file, preproc))


@pytest.mark.parametrize(
    ("file", "preproc"),
    [
        (file_with(1 / 255, -128), Preproc()),
        (file_with(1 / 127, 0), Preproc()),  # symmetric: what is below zero is never sent
        (file_with(4 / 255, 0, "float32", "int8"), CENTRED),
        (file_with(4.75 / 255, -14), IMAGENET),
        (file_with(4.2 / 255, -14), IMAGENET),  # calibration cut a tenth
        (Description(Path("f.onnx"), "onnx", (), (), (Tensor("x", "float32"),), ()), CENTRED),
    ],
)
def test_what_fits_is_not_doubted(file: Description, preproc: Preproc) -> None:
    assert misfit(file, preproc) == ""


def test_real_files_say_what_they_hold(tmp_path: Path) -> None:
    """An int8 TFLite input, and a float ONNX input that the first node quantizes; both are fed values in 0 to 1."""
    integers = describe(tiny.tflite_file(tmp_path / "tiny.tflite"))
    reals = describe(quantized(tmp_path / "int8.onnx", tiny.onnx_file(tmp_path / "float.onnx")))
    assert reals.inputs[0].is_float
    for file in (integers, reals):
        assert held(file) == pytest.approx((0, 1), abs=0.02)
        assert misfit(file, Preproc()) == ""
        assert "would fit" in misfit(file, CENTRED)


def test_an_onnx_input_of_integers_holds_the_pixels_themselves(tmp_path: Path) -> None:
    """ONNX says no scale of it, and runtimes feed it as it is, whatever the first DequantizeLinear makes of it."""
    model = onnx.load(tiny.qdq_file(tmp_path / "s8.onnx"))
    quantize = next(node for node in model.graph.node if node.input[0] == "x")
    model.graph.node.remove(quantize)
    model.graph.input[0].name = quantize.output[0]
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    onnx.save(model, tmp_path / "s8.onnx")
    file = describe(tmp_path / "s8.onnx")
    assert held(file) == (-128, 127)
    fits = guess_preproc(file, "nchw")
    assert (fits.divisor, fits.mean, fits.std) == (1, (128,) * 3, (1,) * 3)
    assert misfit(file, fits) == ""
    assert misfit(file, Preproc()) != ""
    engine = onnxruntime.Engine()
    engine.load(tmp_path / "s8.onnx", {}, 1)
    assert (engine.input.scale, engine.input.zero_point) == (file.inputs[0].scale[0], file.inputs[0].zero_point[0])


@pytest.mark.data
def test_the_files_of_vendors_are_not_doubted(data_dir: Path) -> None:
    for table in tomllib.loads((SUITES / "vendor.toml").read_text())["artifact"]:
        given = (tuple(table.get(key, default)) for key, default in (("mean", (0,) * 3), ("std", (1,) * 3)))
        file = describe(data_dir / table["file"])
        assert misfit(file, Preproc("nhwc", table["divisor"], *given)) == ""
        assert misfit(file, Preproc("nhwc")) != "", "pixels in 0 to 1 are not what it takes"
