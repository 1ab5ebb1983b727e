"""Files for Rockchip's RK3588: the ranges of their spec, what the toolkit's simulation answers, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import small_networks as small
from helpers import toolchains
from helpers.elsewhere import Elsewhere
from helpers.tiny_torch import rknn_file
from torch import nn
from torch.nn import functional

from backends.conformance import networks
from backends.device import rknn
from backends.device.errors import UserError
from backends.device.toolchains import RKNN
from exporters.files import describe, require_integer
from exporters.rknn_build import Seen
from exporters.rknn_proof import require_grids
from exporters.toolchains import require_floats
from harness.results.alike import QUANTIZED, alike

TINY = networks.file("rknn")
accepted = pytest.fixture(scope="module", autouse=True)(toolchains.accepting)


@pytest.fixture(scope="module")
def network():
    return small.resnet()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    toolchains.require(RKNN)
    return {
        name: small.write(tmp_path_factory.mktemp(name), network, "rknn", replace(small.SPEC, calibration=name))
        for name in ("moving_average", "normal", "kl_divergence")
    }


def scales(file: Path) -> dict[str, float]:
    tensors = (operator.outputs[0] for operator in describe(file).operators)
    return {tensor.name: tensor.scale[0] for tensor in tensors if tensor.scale}


@pytest.mark.slow
def test_all_of_a_network_is_integer(files):
    found = require_integer(files["normal"])
    assert {name: found.counts[name] for name in ("Conv", "Add", "Relu")} == {"Conv": 11, "Add": 3, "Relu": 7}


@pytest.mark.slow
def test_its_logits_lie_on_the_steps_of_the_moving_average_of_the_calibration_images(network, files):
    """Of the logits of each image, computed by torch here; one batch is one image."""
    rows = small.torch_logits(network, small.PIXELS[: small.SPEC.calibration_images])
    low, high = rows[0].min(), rows[0].max()
    for row in rows[1:]:
        low, high = 0.95 * low + 0.05 * row.min(), 0.95 * high + 0.05 * row.max()
    steps = toolchains.logits(RKNN, files["moving_average"], small.PIXELS) / ((high - low) / 255)
    np.testing.assert_allclose(steps, np.rint(steps), atol=0.01)
    assert 60 < np.ptp(np.rint(steps)) <= 255


@pytest.mark.slow
def test_it_computes_nearly_what_torch_does_and_raw_pixels_are_found(network, files):
    runtime, x = Elsewhere("rknn"), small.as_input(small.PIXELS).numpy()
    runtime.load(files["normal"], {}, 1)
    expected = small.torch_logits(network, small.PIXELS)
    assert np.corrcoef(runtime.run(x).ravel(), expected.ravel())[0, 1] > 0.97
    assert not alike(runtime.run(x * 255), expected).is_within(QUANTIZED)


@pytest.mark.slow
def test_normal_is_minmax_and_the_divergence_narrows(network, files, tmp_path):
    ours = scales(small.write(tmp_path, network, "rknn"))
    normal, divergence = scales(files["normal"]), scales(files["kl_divergence"])
    assert ours.keys() == normal.keys() == divergence.keys()
    same = [name for name in ours if ours[name] == pytest.approx(normal[name], rel=1e-5)]
    assert len(same) >= len(ours) - 2  # what is sliced keeps the scale of the whole with us, and is padded with it
    assert all(divergence[name] <= normal[name] * 1.001 for name in normal)
    assert any(divergence[name] < normal[name] * 0.99 for name in normal)


@pytest.mark.slow
def test_a_network_that_it_cannot_take_is_one_line(tmp_path):
    toolchains.require(RKNN)
    with pytest.raises(UserError, match=r"small: rknn-toolkit2 failed: .*Gelu") as raised:
        small.write(tmp_path, small.Around(functional.gelu).eval(), "rknn")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_file_of_conformance_is_what_lies_behind_that_which_the_constants_make(tmp_path):
    toolchains.require(RKNN)
    made = rknn_file(tmp_path / "tiny.rknn")
    assert made.stat().st_size > TINY.stat().st_size
    (_, expected), (_, found) = rknn.read(TINY), rknn.read(made)
    assert found.layers == expected.layers
    assert found.ranges.keys() == expected.ranges.keys()
    for name, span in expected.ranges.items():
        assert found.ranges[name] == pytest.approx(span, rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "is asked for integers: give its files precision w8a8"),
        (replace(small.SPEC, symmetric_activations=True), "without symmetric_activations"),
        (replace(small.SPEC, weight_bits=4), "got w4a8 s8s4"),
        (replace(small.SPEC, per_channel=False), "per_channel"),
    ],
)
def test_what_its_quantizer_has_no_way_for_is_refused_before_it_is_installed(tmp_path, spec, says):
    with pytest.raises(UserError, match=says):
        small.write(tmp_path, nn.Identity().eval(), "rknn", spec)


def test_a_file_is_read_without_its_toolchain():
    found = require_integer(TINY)
    assert found.counts == {"Conv": 4, "exDataConvert": 2, "Relu": 1, "Reshape": 1}
    assert found.inputs[0].shape == (1, 3, networks.SIZE, networks.SIZE)
    assert scales(TINY)["pixels_int8"] == pytest.approx(1 / 255)


def seen(**changes) -> list[Seen]:
    return [
        Seen(
            **{"layer": "a", "cosine": 1.0, "rounded": True, "off": 0.0, "low": -128, "high": 127, "stride": 1}
            | changes
        )
    ]


@pytest.mark.parametrize(
    "change", [{"off": 0.4}, {"low": -140}, {"high": 128}, {"stride": 2}, {"rounded": False, "off": 0.5}]
)
def test_a_layer_that_lacks_its_range_is_named(change):
    ranges = {"a": (-1.0, 2.0)}
    require_grids(Path("a.rknn"), ranges, seen(), ())
    with pytest.raises(UserError, match=r"a\.rknn: .* the range of 'a' that its QuantSpec implies, -1 to 2"):
        require_grids(Path("a.rknn"), ranges, seen(**change), ())
    require_grids(Path("a.rknn"), ranges, seen(rounded=False, off=0.5), {"a"})


def test_a_network_that_is_read_otherwise_is_refused():
    logits = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    require_floats(Path("a.rknn"), RKNN, logits, logits)
    with pytest.raises(UserError, match=r"a\.rknn: as rknn-toolkit2 reads it"):
        require_floats(Path("a.rknn"), RKNN, logits[:, ::-1], logits)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda build: build["ranges"].update(relu=[0.5, 1.0]), "relu: expected a range around 0, got 0.5 to 1"),
        (lambda build: build["ranges"].update(relu=[0.0, 0.0]), "relu: expected a range around 0"),
        (lambda build: build["ranges"].update(relu=[0.0]), "build.json: ranges: relu"),
        (lambda build: build["layers"].clear(), "expected one image in, one vector out"),
        (lambda build: build.pop("layers"), "has no 'layers'"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, change, says):
    damaged = toolchains.rebuilt(TINY, tmp_path / "damaged.rknn", change)
    with pytest.raises(UserError, match=says) as raised:
        describe(damaged)
    assert "\n" not in str(raised.value)


def test_a_file_of_the_vendors_own_has_nothing_to_simulate(tmp_path):
    file = tmp_path / "theirs.rknn"
    file.write_bytes(b"RKNN" + bytes(200))
    with pytest.raises(UserError, match=r"theirs\.rknn: has no network for Rockchip's simulator behind it"):
        describe(file)
