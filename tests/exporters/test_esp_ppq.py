"""Files for Espressif's ESP32-P4: the scales of their spec, what their integers give, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers import toolchains
from helpers.elsewhere import Elsewhere
from helpers.esp_dl import executed
from helpers.tiny_torch import espdl_file
from torch import nn

from backends.conformance import networks
from backends.device import esp_ppq
from backends.device.errors import UserError
from backends.device.quantize import quantize
from backends.device.toolchains import ESP_PPQ
from exporters.esp_ppq_proof import require_asked, require_computable, require_simulated, require_weights
from exporters.files import describe, require_integer

SPEC = replace(small.SPEC, symmetric_activations=True)
TINY = networks.file("espdl")


@pytest.fixture(scope="module")
def network():
    return small.resnet()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    toolchains.require(ESP_PPQ)
    return {
        name: small.write(tmp_path_factory.mktemp(name), network, "espdl", replace(SPEC, calibration=name))
        for name in ("moving_average", "kl")
    }


def loaded(file: Path) -> Elsewhere:
    toolchains.require(ESP_PPQ)
    runtime = Elsewhere("esp_ppq")
    runtime.load(file, {}, 1)
    return runtime


def answers(file: Path, x: np.ndarray) -> np.ndarray:
    """What the simulation makes of pixels, as integers."""
    runtime = loaded(file)
    return runtime.run(quantize(x, *runtime.input[2:], np.dtype(np.int8)))


def as_input(pixels: np.ndarray) -> np.ndarray:
    return small.as_input(pixels).numpy()


@pytest.mark.slow
def test_all_of_a_network_is_integer(files):
    found = require_integer(files["kl"])
    assert {name: found.counts[name] for name in ("Conv", "Add", "Gemm")} == {"Conv": 7, "Add": 4, "Gemm": 1}
    assert {output.dtype for operator in found.operators for output in operator.outputs} == {"int8"}


@pytest.mark.slow
def test_its_logits_have_the_power_of_two_above_the_scale_of_their_moving_average(network, files):
    """Of the logits of each image, computed by torch here; one batch is one image."""
    rows = small.torch_logits(network, small.PIXELS[: SPEC.calibration_images])
    low, high = rows[0].min(), rows[0].max()
    for row in rows[1:]:
        low, high = 0.95 * low + 0.05 * row.min(), 0.95 * high + 0.05 * row.max()
    assert loaded(files["moving_average"]).output.scale == 2.0 ** math.ceil(math.log2(max(-low, high) / 127))


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["moving_average", "kl"])
def test_the_simulation_computes_the_integers_of_the_file_by_the_rules_of_esp_dl(files, calibration):
    file, x = files[calibration], as_input(small.PIXELS[:8])
    given = quantize(x, *loaded(file).input[2:], np.dtype(np.int8))
    np.testing.assert_array_equal(answers(file, x), executed(esp_ppq.read(file), given))


def test_the_integers_of_the_small_file_are_those_of_esp_dl():
    x = as_input(networks_pixels())
    given = quantize(x, 2.0**-6, 0, np.dtype(np.int8))
    logits = executed(esp_ppq.read(TINY), given).astype(np.float32) * np.float32(describe(TINY).outputs[0].scale[0])
    assert networks.faults("espdl", networks_pixels(), logits) == ""


def networks_pixels() -> np.ndarray:
    return small.pixels(8, networks.SIZE)


@pytest.mark.slow
def test_it_computes_nearly_what_torch_does(network, files):
    x, expected = as_input(small.PIXELS), small.torch_logits(network, small.PIXELS)
    assert np.corrcoef(answers(files["kl"], x).ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.slow
def test_a_sum_has_one_scale_for_what_it_adds_and_gives_whatever_the_calibration(files):
    for file in files.values():
        sums = [operator for operator in describe(file).operators if operator.name == "Add"]
        assert all(len({tensor.scale for tensor in (*one.inputs, *one.outputs)}) == 1 for one in sums)


@pytest.mark.slow
def test_a_network_that_it_cannot_take_is_one_line(tmp_path):
    toolchains.require(ESP_PPQ)
    with pytest.raises(UserError, match=r"small: esp-ppq failed: ") as raised:
        small.write(tmp_path, small.Around(lambda x: torch.cumsum(x, 1)).eval(), "espdl", SPEC)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_file_of_conformance_is_what_the_constants_make(tmp_path):
    toolchains.require(ESP_PPQ)
    made = espdl_file(tmp_path / "tiny.espdl")
    assert esp_ppq.read(made) == esp_ppq.read(TINY)
    assert esp_ppq.behind(made)[1] == esp_ppq.behind(TINY)[1]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "is asked for integers: give its files precision w8a8"),
        (replace(SPEC, symmetric_activations=False), "with symmetric_activations"),
        (replace(SPEC, weight_bits=4), "got w4a8 s8s4"),
        (replace(SPEC, per_channel=False), "per_channel"),
    ],
)
def test_what_its_quantizer_has_no_way_for_is_refused_before_it_is_installed(tmp_path, spec, says):
    with pytest.raises(UserError, match=says):
        small.write(tmp_path, nn.Identity().eval(), "espdl", spec)


def test_a_file_is_read_without_its_toolchain():
    found = require_integer(TINY)
    assert found.counts == {"Conv": 1, "GlobalAveragePool": 1, "Transpose": 1, "Reshape": 1, "Gemm": 1}
    assert found.inputs[0].shape == (1, networks.SIZE, networks.SIZE, 3)
    assert found.inputs[0].scale == (2.0**-6,)  # 1 is more than 127 steps of 2^-7
    weights = found.operators[0].inputs[1]
    assert (weights.axis, len(weights.scale)) == (3, 5)


def changed(name: str, exponent: int) -> esp_ppq.Graph:
    """The small file's graph, but for the scale of an activation."""
    graph = esp_ppq.read(TINY)
    return graph._replace(values=graph.values | {name: graph.values[name]._replace(exponents=(exponent,))})


def test_a_scale_that_was_not_asked_for_is_named():
    asked = {name: value.exponents[0] for name, value in esp_ppq.read(TINY).values.items() if value.dtype == "int8"}
    require_asked(TINY, esp_ppq.read(TINY), asked)
    with pytest.raises(UserError, match=r"the scale of 'logits' is not .* expected 2\^-3, the file has 2\^-2"):
        require_asked(TINY, changed("logits", -2), asked)


def test_a_scale_that_the_simulation_does_not_have_is_named():
    with pytest.raises(UserError, match="'logits' has the exponents"):
        require_simulated(TINY, changed("logits", -2), {"logits": (-3,)})


def test_scales_that_the_chip_cannot_compute_with_are_named():
    require_computable(TINY, esp_ppq.read(TINY))
    with pytest.raises(UserError, match=r"cannot give Gemm 'logits' a finer scale than that of its products"):
        require_computable(TINY, changed("logits", -20))
    graph = changed("relu", -1)
    summing = graph._replace(nodes=[esp_ppq.Node("Add", ["relu", "mean"], ["mean"], {})])
    with pytest.raises(UserError, match=r"integers of one scale, and those of Add 'mean' have 2\^-1, 2\^-4, 2\^-4"):
        require_computable(TINY, summing)


def test_weights_that_are_not_the_networks_are_named(tmp_path):
    network = tmp_path / "network.onnx"
    network.write_bytes(esp_ppq.behind(TINY)[0])
    require_weights(TINY, esp_ppq.read(TINY), describe(network))
    graph = esp_ppq.read(TINY)
    value = graph.values["dense.weight"]
    content = bytearray(value.content)
    content[0] ^= 1
    other = graph._replace(values=graph.values | {value.name: value._replace(content=bytes(content))})
    with pytest.raises(UserError, match=r"the weights 'dense\.weight' are not the network's"):
        require_weights(TINY, other, describe(network))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda build: build["exponents"].update(relu=99), "relu: expected an exponent of -64 to 64, got 99"),
        (lambda build: build["exponents"].update(relu="1"), "build.json: exponents: relu"),
        (lambda build: build.pop("shape"), "has no 'shape'"),
    ],
)
def test_a_damaged_archive_is_one_line(tmp_path, change, says):
    damaged = toolchains.rebuilt(TINY, tmp_path / "damaged.espdl", change)
    with pytest.raises(UserError, match=says) as raised:
        esp_ppq.behind(damaged)
    assert "\n" not in str(raised.value)


def test_a_file_of_the_vendors_own_is_read_and_has_nothing_to_simulate(tmp_path):
    content = TINY.read_bytes()
    file = tmp_path / "theirs.espdl"
    file.write_bytes(content[: content.index(b"PK\x03\x04")])
    assert require_integer(file).counts["Conv"] == 1
    with pytest.raises(UserError, match=r"theirs\.espdl: has no network for esp-ppq's simulation behind it"):
        esp_ppq.behind(file)
    file.write_bytes(content[:600])
    with pytest.raises(UserError, match=r"theirs\.espdl: a damaged \.espdl file, perhaps truncated"):
        describe(file)
