"""What a TFLite file says of its ends, read by hand, against LiteRT's own reader."""

import pytest
from ai_edge_litert.interpreter import Interpreter
from helpers import tiny
from helpers.tflite_networks import with_weights_outside

from backends.device.errors import UserError
from backends.device.tflite_facts import Facts, read


@pytest.fixture
def file(tmp_path):
    return tiny.tflite_file(tmp_path / "tiny.tflite")


def test_ends_have_the_scales_that_litert_reads(file):
    interpreter = Interpreter(str(file))
    sides = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert read(file, "a runtime") == Facts(*(side["quantization"] for side in sides))


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["mobilenet_v2_1.0_224_quant", "mlperf_tiny_resnet8_int8", "mlperf_tiny_resnet8_float"]
)
def test_so_have_those_of_vendors_and_float_ones_have_none(data_dir, name):
    path = data_dir / f"vendor/{name}.tflite"
    interpreter = Interpreter(str(path))
    sides = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert read(path, "a runtime") == Facts(
        *(side["quantization"] if side["quantization"][0] else None for side in sides)
    )


def test_constants_outside_the_flatbuffer_are_refused_with_what_moves_them(file, tmp_path):
    outside = with_weights_outside(file, tmp_path / "outside.tflite")
    with pytest.raises(UserError, match=r"2 constants lie outside .*, where Nobody does not .* --inside COPY`"):
        read(outside, "Nobody")


@pytest.mark.parametrize("cut", [0, 3, 40, 200])
def test_a_damaged_file_is_one_line(file, cut):
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"tiny\.tflite: no TFLite file, or a damaged one: "):
        read(file, "a runtime")
