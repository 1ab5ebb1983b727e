"""Twins of ``.pte`` files: nodes of XNNPACK's graphs, whose integers are those that ExecuTorch computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import drawn, executorch
from helpers.pte_graphs import INPUT, OUTPUT, Graph, Tensor
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backends.device.errors import UserError
from patches.twins import twin

DRAWS = settings(max_examples=2, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
SHAPE = (1, 3, 4, 4)


@pytest.fixture(scope="module", autouse=True)
def _executorch() -> None:
    executorch.require()


@pytest.mark.parametrize("name", drawn.PTE)
@DRAWS
@given(data=st.data())
def test_a_nodes_integers_are_executorchs(name: str, data: st.DataObject) -> None:
    assert drawn.unequal(drawn.pte(data.draw, name)) == []


def around(graph: Graph, node: str, *, reals: bool = False, **given: object) -> Graph:
    """A node on the pixels, as integers or as reals."""
    x = graph.node("Convert", graph.integers(SHAPE, 1 / 255, -128), graph.reals(*SHAPE, flags=INPUT))
    made = graph.reals(*SHAPE) if reals else graph.integers(SHAPE, 1 / 255, -128)
    y = graph.node(node, made, graph.node("Convert", graph.reals(*SHAPE), x) if reals else x, **given)
    y = graph.node("Convert", graph.integers(SHAPE, 1 / 255, -128), y) if reals else y
    graph.node("Convert", graph.reals(*SHAPE, flags=OUTPUT), y)
    return graph


@pytest.mark.parametrize(
    ("node", "given", "words"),
    [
        ("Sigmoid", {"reals": True}, r"operator Sigmoid \(number 2\) computes in float, and has no twin yet"),
        ("Hardswish", {}, r"operator Hardswish \(number 1\) has no twin yet"),
        ("Copy", {"flags": 4}, r"Copy \(number 1\) with XNNPACK's flags 0x4 has no twin yet"),
    ],
)
def test_what_no_twin_knows_is_refused_by_name(tmp_path: Path, node: str, given: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        twin(around(Graph(), node, **given).write(tmp_path / "net.pte"), layout="nchw")


def test_halves_of_floats_are_refused(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.node("Convert", graph.integers(SHAPE, 1 / 255, -128), graph.reals(*SHAPE, flags=INPUT))
    x = graph.node("Convert", graph.made(Tensor("float16", SHAPE)), x)
    x = graph.node("Convert", graph.integers(SHAPE, 1 / 255, -128), x)
    graph.node("Convert", graph.reals(*SHAPE, flags=OUTPUT), x)
    with pytest.raises(UserError, match=r"Convert \(number 1\) on float16 has no twin yet"):
        twin(graph.write(tmp_path / "net.pte"))


def test_kernels_outside_the_delegate_are_refused_by_name(tmp_path: Path) -> None:
    file = around(Graph(), "Copy").write(tmp_path / "net.pte", kernel="aten::neg")
    with pytest.raises(UserError, match=r"dequantized at the end; the last operator is neg \(number 3\)"):
        twin(file)


def test_parts_of_different_scales_are_refused(tmp_path: Path) -> None:
    graph = Graph()
    image = graph.reals(*SHAPE, flags=INPUT)
    parts = [graph.node("Convert", graph.integers(SHAPE, scale, 0), image) for scale in (0.1, 0.2)]
    whole = graph.node("Concatenate2", graph.integers((1, 3, 4, 8), 0.1, 0), *parts, axis=3)
    graph.node("Convert", graph.reals(1, 3, 4, 8, flags=OUTPUT), whole)
    with pytest.raises(UserError, match=r"Concatenate2 \(number 2\) of different scales has no twin yet"):
        twin(graph.write(tmp_path / "net.pte"))


def test_gradients_pass_where_nothing_clips(tmp_path: Path) -> None:
    """A clip at a half: the gradient of a pixel passes, but for one that is above."""
    graph = Graph()
    x = graph.node("Convert", graph.integers(SHAPE, 1 / 255, -128), graph.reals(*SHAPE, flags=INPUT))
    half = graph.node("Clamp", graph.integers(SHAPE, 1 / 255, -128), x, limits=(0.0, 0.5))
    graph.node("Convert", graph.reals(*SHAPE, flags=OUTPUT), half)
    exact = twin(graph.write(tmp_path / "net.pte"), layout="nchw")
    pixels = torch.full(SHAPE, 0.25)
    pixels[0, 0, 0, 0] = 0.75
    pixels.requires_grad_()
    exact(pixels).sum().backward()
    expected = np.ones(SHAPE, np.float32)
    expected[0, 0, 0, 0] = 0
    np.testing.assert_allclose(pixels.grad.numpy(), expected, rtol=1e-5)


def test_a_twin_ends_in_integers(tmp_path: Path) -> None:
    net = Graph()
    image = net.reals(*SHAPE, flags=INPUT)
    x = net.node("Convert", net.integers(SHAPE, 1 / 255, -128), image)
    net.node("Softmax", net.reals(*SHAPE, flags=OUTPUT), net.node("Convert", net.reals(*SHAPE), x))
    with pytest.raises(UserError, match=r"expected integers, dequantized at the end; the last operator is Softmax"):
        twin(net.write(tmp_path / "net.pte"))
