"""Operators drawn at random, one to a file: the integers of their twins are the kernels'."""

import pytest
from helpers import drawn, drawn_onnx
from helpers.twin_networks import KERNELS
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

DRAWS = settings(max_examples=3, deadline=None, derandomize=True, database=None, phases=[Phase.generate])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("name", "dtype"), drawn.kinds())
@DRAWS
@given(data=st.data())
def test_tflite(name: str, dtype: str, kernels: str, data: st.DataObject) -> None:
    assert drawn.unequal(drawn.tflite(data.draw, name, dtype, kernels)) == []


@pytest.mark.parametrize(("activations", "weights"), drawn_onnx.TYPES)
@pytest.mark.parametrize("name", drawn.ONNX)
@DRAWS
@given(data=st.data())
def test_onnx(name: str, activations: str, weights: str, data: st.DataObject) -> None:
    assert drawn.unequal(drawn.onnx(data.draw, name, activations, weights)) == []
