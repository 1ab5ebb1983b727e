"""The kinds of nodes of an XNNPACK graph in a ``.pte`` file: which field of each is what, as its schema lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Fields = Mapping[str, tuple[int, str]]  # number and `struct` code by name; after a star, of a vector


class Form(NamedTuple):
    """A kind of node: its name, the fields that hold its operands, and those of its settings."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attributes: Fields


def _numbered(*names: str) -> Fields:
    return {name: (field, "I") for field, name in enumerate(names)}


CONVOLUTION = _numbered(
    "padding_top", "padding_right", "padding_bottom", "padding_left", "kernel_height", "kernel_width",
    "subsampling_height", "subsampling_width", "dilation_height", "dilation_width", "group_input_channels",
    "group_output_channels", "groups", "adjustment_height", "adjustment_width",
)  # fmt: skip
POOLING = _numbered(
    "padding_top", "padding_right", "padding_bottom", "padding_left", "pooling_height", "pooling_width",
    "stride_height", "stride_width", "dilation_height", "dilation_width",
)  # fmt: skip
PADDING: Fields = {"pre_paddings": (0, "*I"), "post_paddings": (1, "*I"), "padding_value": (2, "f")}
SLICE: Fields = {"offsets": (1, "*I"), "sizes": (2, "*I")}


def _plain(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Form:
    return Form(name, inputs, outputs, {})


def _of_one(name: str) -> Form:
    return _plain(name, (0,), (1,))


def _of_two(name: str) -> Form:
    return _plain(name, (0, 1), (2,))


def _joined(count: int) -> Form:
    inputs = (1, 2, 3, 4, 7)[:count]
    return Form(f"Concatenate{count}", inputs, (5,), {"axis": (0, "I")})


def _weighted(name: str) -> Form:
    return Form(name, (15, 16, 17), (18,), CONVOLUTION)


NODES = dict(enumerate((
    _of_two("Add"), _plain("FullyConnected", (0, 1, 2), (3,)), _of_one("Softmax"), _of_one("Sigmoid"),
    Form("StaticTranspose", (2,), (3,), {"perm": (1, "*I")}), _of_one("Clamp"), _weighted("Conv2d"), _of_two("Div"),
    Form("StaticResizeBilinear2D", (2,), (3,), _numbered("new_height", "new_width")),
    Form("StaticConstantPad", (3,), (4,), PADDING), Form("AvgPooling2d", (10,), (11,), POOLING), _of_two("Minimum"),
    _weighted("DepthwiseConv2d"), Form("MaxPooling2d", (10,), (11,), POOLING), _of_two("Multiply"),
    _of_two("Subtract"), _of_one("Floor"), _of_one("Convert"), _of_one("GlobalAvgPooling2d"),
    Form("StaticReshape", (2,), (3,), {"new_shape": (1, "*I")}), _plain("ArgMaxPooling2d", (6,), (7, 8)),
    _of_one("SquareRoot"), _of_one("Ceiling"), _of_one("Hardswish"),
    Form("LeakyReLU", (1,), (2,), {"negative_slope": (0, "f")}), _of_two("Maximum"), _of_one("Negate"),
    _of_one("Square"), Form("ELU", (1,), (2,), {"alpha": (0, "f")}), _of_one("Abs"), _of_two("PReLU"),
    _joined(2), _joined(3), _joined(4), Form("StaticSlice", (3,), (4,), SLICE),
    _plain("ScaledDotProductAttention", (0, 1, 2, 3, 4), (5,)), _of_two("BatchMatrixMultiply"), _joined(5),
    _weighted("ConvTranspose2d"), _of_one("ReciprocalSquareRoot"), _of_one("Log"), _of_one("Gelu"), _of_one("Tanh"),
    _of_one("Exp"), _of_one("Sin"), _of_one("Copy"), _of_one("Cos"),
), 1))  # fmt: skip
