"""A run that makes patches on the twin of a ``.pte`` file, which ExecuTorch runs."""

from pathlib import Path

import numpy as np
import pytest
from helpers import executorch
from helpers.pte_graphs import INPUT, OUTPUT, Graph
from rich.console import Console

from harness.results.run_directory import read_run
from harness.run.run import run_suite

SIZE, FILTERS = 9, 10
SUITE = f"""
schema = 1
name = "ptes"
[data]
name = "digits"
calibration = 1
craft = 8
evaluate = 8
[[artifact]]
name = "net"
file = "net.pte"
input_size = [{SIZE}, {SIZE}]
[[attack]]
name = "gap"
surrogate = "twin:net"
pixels = 3
options = {{ steps = 1, batch = 4 }}
[[target]]
name = "device"
runtime = "executorch"
[controls]
noise = 0
grey = 0
"""


def network(file: Path) -> Path:
    """A convolution and the mean of each of its channels."""
    random, graph = np.random.default_rng(0), Graph()
    x = graph.node(
        "Convert", graph.integers((1, 3, SIZE, SIZE), 1 / 255, -128), graph.reals(1, 3, SIZE, SIZE, flags=INPUT)
    )
    turned = graph.integers((1, SIZE, SIZE, 3), 1 / 255, -128)
    x = graph.node("StaticTranspose", turned, x, num_dims=4, perm=[0, 2, 3, 1])
    weights = graph.constant(random.integers(-127, 128, (FILTERS, 3, 3, 3)).astype(np.int8), np.full(FILTERS, 0.01))
    x = graph.node(
        "Conv2d", graph.integers((1, SIZE - 2, SIZE - 2, FILTERS), 0.02, -128), x, weights, limits=(0.0, np.inf),
        kernel_height=3, kernel_width=3, subsampling_height=1, subsampling_width=1, dilation_height=1,
        dilation_width=1, groups=1, group_input_channels=3, group_output_channels=FILTERS,
    )  # fmt: skip
    x = graph.node("GlobalAvgPooling2d", graph.integers((1, 1, 1, FILTERS), 0.02, -128), x, flags=0x40)
    x = graph.node("StaticReshape", graph.integers((1, FILTERS), 0.02, -128), x, num_dims=2, new_shape=[1, FILTERS])
    graph.node("Convert", graph.reals(1, FILTERS, flags=OUTPUT), x)
    return graph.write(file)


def test_its_integers_are_held_against_executorch_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executorch.require()
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "net.pte")
    (tmp_path / "suite.toml").write_text(SUITE)
    assert run_suite(tmp_path / "suite.toml", None, tmp_path / "out", console=Console(quiet=True))
    run = read_run(tmp_path / "out")
    (held,), (answered,) = run.twins, run.arithmetic
    assert (held.kernels, held.equal, held.largest) == ("executorch", 1.0, 0)
    assert (answered.target, answered.equal, answered.largest, answered.signature) == ("device", 1.0, 0, "s8s8")
