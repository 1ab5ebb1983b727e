"""Layout, size and names are read from a user's file, and errors name that file."""

from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as tfl
from flatbuffers import Builder
from helpers import tiny

from backends.device.errors import UserError
from exporters.failure import naming
from exporters.files import describe
from exporters.files.description import Description, Tensor
from exporters.files.image_input import image_layout, image_size, layout_or_default
from exporters.files.tflite_cut import cut


def file_with(*shape: int) -> Description:
    entry = Tensor("pixels", "int8", shape)
    return Description(Path("vendor.tflite"), "tflite", (), (), (entry,), (entry,))


@pytest.mark.parametrize(
    ("shape", "given", "layout", "size"),
    [
        ((1, 3, 32, 40), None, "nchw", (32, 40)),
        ((-1, 32, 40, 3), None, "nhwc", (32, 40)),
        ((1, 3, 8, 3), "nchw", "nchw", (8, 3)),
        ((1, 3, 8, 3), "nhwc", "nhwc", (3, 8)),
    ],
)
def test_the_layout_is_read_from_the_shape_or_given(shape, given, layout, size):
    file = file_with(*shape)
    assert image_layout(file, given) == layout
    assert image_size(file, layout) == size


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((1, 3, 8, 3), None, "takes inputs 1x3x8x3, which may be nchw or nhwc: say its layout"),
        ((1, 3, 8, 8), "nhwc", "takes inputs 1x3x8x8, which is not nhwc"),
        ((-1, 640), None, "takes inputs nx640, expected an image with four axes"),
        ((1, 96, 96, 1), None, "takes inputs 1x96x96x1, expected three channels"),
        ((1, 3, -1, -1), None, "has no fixed height and width"),
    ],
)
def test_what_takes_no_rgb_image_is_one_line_that_names_the_file(shape, given, message):
    file = file_with(*shape)
    with pytest.raises(UserError, match=f"^vendor.tflite: .*{message}"):
        image_size(file, image_layout(file, given))


def test_an_ambiguous_shape_has_the_usual_layout_of_its_format_where_a_suite_gives_none():
    assert layout_or_default(file_with(1, 3, 8, 3), None) == "nhwc"
    assert layout_or_default(file_with(1, 3, 8, 8), None) == "nchw"


def test_a_tensor_without_a_name_is_valid(tmp_path):
    model = tfl.ModelT.InitFromPackedBuf(tiny.tflite_file(tmp_path / "tiny.tflite").read_bytes(), 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None
    builder = Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    unnamed = tmp_path / "unnamed.tflite"
    unnamed.write_bytes(bytes(builder.Output()))
    output = describe(unnamed).outputs[0].name
    assert output.startswith("tensor_")
    cut(unnamed, output, tmp_path / "cut.tflite")
    assert describe(tmp_path / "cut.tflite").outputs[0].name == output


def test_an_error_names_the_users_file_and_no_temporary_one(tmp_path):
    temporary = tmp_path / "cut.tflite"
    with pytest.raises(UserError, match=r"^vendor.tflite: takes inputs"), naming(Path("vendor.tflite"), temporary):
        raise UserError(f"{temporary}: takes inputs")
