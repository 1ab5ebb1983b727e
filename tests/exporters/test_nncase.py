"""Files for Kendryte's K230: the integers of their bytes, what its simulator answers, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers import toolchains
from helpers.elsewhere import Elsewhere
from helpers.tiny_torch import kmodel_file
from torch import nn

from backends.conformance import networks
from backends.device import nncase
from backends.device.errors import UserError
from backends.device.toolchains import NNCASE
from exporters import nncase as exporter
from exporters.files import describe, require_integer
from exporters.nncase_dump import Span, implied
from exporters.nncase_proof import COLUMNS, SECTION, require_constants
from harness.results.alike import QUANTIZED, alike

TINY = networks.file("kmodel")
SPEC = replace(small.SPEC, activation_signed=False)


@pytest.fixture(scope="module")
def network():
    return small.resnet()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    toolchains.require(NNCASE)
    return {
        name: small.write(tmp_path_factory.mktemp(name), network, "kmodel", replace(SPEC, calibration=name))
        for name in ("minmax", "moving_average", "no_clip", "kld")
    }


def scales(file) -> dict[str, float]:
    return {tensor.name: tensor.scale[0] for o in describe(file).operators for tensor in o.outputs if tensor.scale}


@pytest.mark.slow
def test_all_that_multiplies_takes_integers(files):
    found = require_integer(files["no_clip"])
    assert found.counts["GNNEConv2D"] == 8
    assert found.signature == "u8s8"
    assert found.inputs[0].shape == (1, 3, 16, 16)


@pytest.mark.slow
def test_its_average_has_the_range_of_the_moving_average_of_the_calibration_images(network, files):
    """Of what the dense layer takes, computed by torch here; one batch is one image."""
    taken = []
    dense = next(one for one in network.modules() if isinstance(one, nn.Linear))
    with dense.register_forward_hook(lambda _, given, __: taken.append(given[0].numpy())):
        small.torch_logits(network, small.PIXELS[: SPEC.calibration_images])
    rows = np.concatenate(taken)
    high = rows[0].max()
    for row in rows[1:]:
        high = 0.95 * high + 0.05 * row.max()
    last = [o.inputs[0] for o in describe(files["moving_average"]).operators if o.name == "GNNEConv2D"][-1]
    assert last.scale[0] == pytest.approx(high / 255, rel=1e-3)


@pytest.mark.slow
def test_no_clip_is_minmax_and_the_divergence_narrows(files):
    ours, theirs, divergence = (list(scales(files[name]).values()) for name in ("minmax", "no_clip", "kld"))
    same = [scale for scale in theirs if any(scale == pytest.approx(one, rel=1e-4) for one in ours)]
    assert len(same) >= len(theirs) - 2  # what is sliced keeps the scale of the whole with us, and is padded with it
    assert any(narrow < wide * 0.99 for narrow, wide in zip(divergence, theirs, strict=True))


@pytest.mark.slow
def test_it_computes_nearly_what_torch_does_and_raw_pixels_are_found(network, files):
    runtime, x = Elsewhere("nncase"), small.as_input(small.PIXELS[:12]).numpy()
    runtime.load(files["minmax"], {}, 1)
    expected = small.torch_logits(network, small.PIXELS[:12])
    assert np.corrcoef(runtime.run(x).ravel(), expected.ravel())[0, 1] > 0.97
    assert not alike(runtime.run(x * 255), expected).is_within(QUANTIZED)


@pytest.mark.slow
def test_a_network_that_it_cannot_take_is_one_line(tmp_path):
    toolchains.require(NNCASE)
    with pytest.raises(UserError, match=r"small: nncase failed: .+") as raised:
        small.write(tmp_path, small.Around(torch.atan).eval(), "kmodel", SPEC)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_layer_where_it_goes_wrong_is_named(network, tmp_path, monkeypatch):
    """Where all but the pixels is cut at a fortieth of its range: not what is first, and only moved."""
    toolchains.require(NNCASE)
    found = exporter.ranges_of

    def narrow(*given):
        return {
            name: (low, high) if name == "pixels" else (low / 40, high / 40)
            for name, (low, high) in found(*given).items()
        }

    monkeypatch.setattr(exporter, "ranges_of", narrow)
    with pytest.raises(UserError, match=r"from '(?!pixels|mul)\w+' on, what nncase compiled is not like the float"):
        small.write(tmp_path, network, "kmodel", SPEC)


@pytest.mark.slow
def test_a_network_of_other_layers_is_proven_too(tmp_path):
    """With max pooling, a depthwise convolution, ReLU6, and parts joined."""
    toolchains.require(NNCASE)
    network = small.branches()
    file = small.write(tmp_path, network, "kmodel", SPEC)
    expected = small.torch_logits(network, small.PIXELS[:12])
    assert np.corrcoef(toolchains.logits(NNCASE, file, small.PIXELS[:12]).ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.slow
def test_depthwise_convolutions_of_layers_are_right(tmp_path):
    """With weights that have a sign, nncase computes something else."""
    toolchains.require(NNCASE)
    torch.manual_seed(0)
    depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6(), nn.Conv2d(16, 32, 3, groups=16))
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU6(), depthwise, nn.Flatten(), nn.Linear(32 * 14 * 14, 10))
    file = small.write(tmp_path, network.eval(), "kmodel", SPEC)
    expected = small.torch_logits(network, small.PIXELS[:12])
    found = toolchains.logits(NNCASE, file, small.PIXELS[:12])
    varied = [logits - logits.mean(0) for logits in (found, expected)]  # without what is alike for all images
    assert np.corrcoef(*(one.ravel() for one in varied))[0, 1] > 0.97


@pytest.mark.slow
def test_the_file_of_conformance_is_what_the_constants_make(tmp_path):
    toolchains.require(NNCASE)
    assert nncase.read(kmodel_file(tmp_path / "tiny.kmodel")) == nncase.read(TINY)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "is asked for integers: give its files precision w8a8"),
        (small.SPEC, "nncase quantizes to w8a8, u8s8, .* got w8a8 s8s8"),
        (replace(SPEC, symmetric_activations=True), "without symmetric_activations"),
        (replace(SPEC, weight_bits=4), "got w4a8 u8s4"),
        (replace(SPEC, per_channel=False), "per_channel"),
    ],
)
def test_what_its_quantizer_has_no_way_for_is_refused_before_it_is_installed(tmp_path, spec, says):
    with pytest.raises(UserError, match=says):
        small.write(tmp_path, nn.Identity().eval(), "kmodel", spec)


def test_a_file_is_read_without_its_toolchain():
    found = require_integer(TINY)
    assert found.counts == {"Quantize": 3, "GNNEConv2D": 2, "GNNEPdp1": 1, "Reshape": 1}
    assert found.inputs[0].shape == (1, 3, networks.SIZE, networks.SIZE)
    assert scales(TINY)["pixels"] == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda build: build["layers"].clear(), "expected layers that each take something"),
        (lambda build: build["layers"][0].pop("operator"), "has no 'operator'"),
        (lambda build: build["layers"][0]["output"].update(scale="1"), r"build\.json: layers.* scale"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, change, says):
    damaged = toolchains.rebuilt(TINY, tmp_path / "damaged.kmodel", change)
    with pytest.raises(UserError, match=says) as raised:
        describe(damaged)
    assert "\n" not in str(raised.value)


def test_a_file_of_the_vendors_own_has_no_description(tmp_path):
    file = tmp_path / "theirs.kmodel"
    file.write_bytes(b"LDMK" + bytes(200))
    with pytest.raises(UserError, match=r"theirs\.kmodel: has no network for K230's description behind it"):
        describe(file)


RANGES = {"x": (0.0, 1.0), "y": (-1.0, 3.0)}
WEIGHTS = np.array([[0.5, -1.0, 0.25], [2.0, 0.004, -0.7]], np.float32)
BIAS = np.array([0.3, -0.2], np.float32)


def compiled(integers, slopes, offsets) -> tuple[bytes, Span]:
    rows = np.zeros((2, COLUMNS), np.float16)
    rows[:, :2], rows[:, 2:4], rows[:, 5] = slopes[:, None], offsets[:, None], 255
    constants = rows.tobytes() + integers.astype(np.int8).tobytes()
    return b"LDMK" + SECTION.pack(b".rdata", *[0] * 5) + constants, Span(0, rows.nbytes, rows.nbytes, 6)


def model(tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    given, wanted = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 3), ("y", 2)))
    constants = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(BIAS, "b")]
    return helper.make_model(helper.make_graph([node], "g", [given], [wanted], constants))


@pytest.mark.parametrize("wrong", ["", "weight", "slope", "offset"])
def test_another_weight_factor_or_bias_in_the_files_bytes_is_noticed(tmp_path, wrong):
    largest = np.abs(WEIGHTS).max(1)
    integers = np.clip(np.rint(WEIGHTS / largest[:, None] * 127.5), -127, 127)
    scale, zero_point = implied(RANGES["y"])
    slopes, offsets = largest / 127.5 / 255 / scale * 2**12, BIAS / scale + zero_point
    if wrong == "weight":
        integers[0, 1] += 1
    elif wrong == "slope":
        slopes[1] *= 1.01
    elif wrong == "offset":
        offsets[0] += 1
    content, span = compiled(integers, slopes, offsets)
    if not wrong:
        require_constants(SimpleNamespace(), content, model(tmp_path), [span], RANGES)
        return
    with pytest.raises(UserError, match="'y'"):
        require_constants(tmp_path / "a.kmodel", content, model(tmp_path), [span], RANGES)
