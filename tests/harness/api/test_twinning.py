"""A file as a torch module: the runtime's integers, for whatever takes a network."""

import copy
import re
from dataclasses import replace

import numpy as np
import patchbench
import pytest
import torch
from helpers import ROOT, tiny
from helpers.tflite_networks import Op, T, write
from torch import nn

from harness.data.readers import read_digits

FILES = [ROOT / "benchmarks" / "baselines" / "demo" / f"resnet8{suffix}" for suffix in (".tflite", ".onnx")]
RUNTIMES = {".tflite": "litert", ".onnx": "onnxruntime"}
PIXELS = read_digits((32, 32))["test"].pixels[:12]

pytestmark = pytest.mark.usefixtures("one_thread")
each_format = pytest.mark.parametrize("file", FILES, ids=lambda file: file.suffix)


def shares(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)


@each_format
def test_its_integers_are_the_runtimes_whatever_the_batch(file):
    network = patchbench.twin(file)
    found = patchbench.replay(file, PIXELS, RUNTIMES[file.suffix], timed_runs=0)
    with torch.no_grad():
        logits = network(shares(PIXELS))
        one_by_one = torch.cat([network(x[None]) for x in shares(PIXELS)])
    assert logits.numpy() == pytest.approx(found.logits, abs=1e-5)
    assert (one_by_one == logits).all()
    if found.integers is not None:
        assert (network.integers(shares(PIXELS)).numpy() == found.integers).all()


@pytest.mark.slow
def test_a_file_that_is_partly_in_float_has_one_too(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ELU(), nn.Conv2d(8, 4, 30), nn.Flatten()).eval()
    file = tmp_path / "partly.onnx"
    patchbench.export(network, PIXELS, patchbench.QuantSpec(allow_float=("Elu",)), file)
    found = patchbench.replay(file, PIXELS, "onnxruntime", timed_runs=0)
    assert [operator.name for operator in patchbench.inspect(file).in_float] == ["Elu"]
    assert patchbench.twin(file)(shares(PIXELS)).numpy() == pytest.approx(found.logits, abs=1e-6)


@each_format
def test_a_copy_moves_and_gives_the_gradient_of_its_input_alone(file):
    network = copy.deepcopy(patchbench.twin(file)).train().to("cpu").eval()
    x = shares(PIXELS[:2]).requires_grad_()
    network(x)[:, 3].sum().backward()
    assert x.grad.abs().amax((1, 2, 3)).min() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert next(network.parameters()).device == x.device  # where torchattacks looks


def test_pixels_between_levels_count_as_the_nearest_and_half_a_level_outside_as_the_last():
    network = patchbench.twin(FILES[0])
    levels = shares(PIXELS)
    nudged = levels + (torch.rand(levels.shape, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.98 / 255
    assert nudged.min() < 0 < 1 < nudged.max()
    assert (network(nudged) == network(levels)).all()


def test_autocast_does_not_reach_its_integers():
    network = patchbench.twin(FILES[0])
    with torch.autocast("cpu", torch.bfloat16):
        inside = network(shares(PIXELS))
    assert (inside == network(shares(PIXELS))).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: x * 255, r"expected pixels in \[0, 1\], got 0 to 255: divide by 255"),
        (lambda x: (x - 0.5) / 0.5, r"got -1 to 1: .* leave normalisation to the twin"),
        (lambda x: x / 0, "got nan to nan|got .* to inf"),
        (
            lambda x: x.double(),
            r"expected pixels, torch\.float32 \(n, 3, 32, 32\), got .*torch\.float64 \(12, 3, 32, 32",
        ),
        (lambda x: (x * 255).byte(), r"got .*torch\.uint8"),
        (lambda x: x.permute(0, 2, 3, 1), r"got .*\(12, 32, 32, 3\)"),
        (lambda x: x[0], r"got .*\(3, 32, 32\)"),
        (lambda x: x[:0], r"got .*\(0, 3, 32, 32\)"),
        (lambda x: x.numpy(), r"got float32 \(12, 3, 32, 32\)"),
    ],
)
def test_what_are_no_pixels_is_refused(wrong, words):
    with pytest.raises(patchbench.UserError, match=rf"twin of resnet8\.tflite: .*{words}"):
        patchbench.twin(FILES[0])(wrong(shares(PIXELS)))


@pytest.mark.parametrize("change", ["half", "double", "bfloat16", "float"])
def test_another_dtype_is_refused_for_it_would_change_the_integers(change):
    with pytest.raises(patchbench.UserError, match="its integers need the dtypes they have"):
        getattr(patchbench.twin(FILES[0]), change)()


def test_preprocessing_that_the_input_cannot_hold_is_warned_of(tmp_path):
    file = file_of(tmp_path / "net.tflite", 1 / 255, -128)
    for use in (
        patchbench.twin,
        lambda *given: patchbench.replay(file, PIXELS[:1, :4, :4], "litert", preproc=given[2]),
    ):
        with pytest.warns(UserWarning, match=r"net\.tflite: preprocessing sends -1 to 1, .*hold 0 to 1") as caught:
            use(file, None, patchbench.Preproc(layout="nhwc", divisor=127.5, mean=(1, 1, 1)))
        assert caught[0].filename == __file__


def test_what_is_no_preprocessing_is_refused():
    with pytest.raises(patchbench.UserError, match=r"preproc: expected a patchbench\.Preproc, got a dict"):
        patchbench.twin(FILES[0], preproc={"mean": (0, 0, 0)})


def file_of(path, scale, zero_point):
    """A file of one dense layer on 4x4 pixels, whose int8 input has this quantization."""
    weights = np.arange(-96, 96, dtype=np.int8).reshape(4, 48)
    tensors = {
        "x": T((1, 4, 4, 3), "int8", (scale,), (zero_point,)),
        "w": T((4, 48), "int8", (0.02,), (0,), weights),
        "b": T((4,), "int32", (scale * 0.02,), (0,), np.zeros(4, np.int32)),
        "y": T((1, 4), "int8", (0.1,), (3,)),
    }
    return write(path, tensors, [Op("FULLY_CONNECTED", ("x", "w", "b"), "y", "FullyConnected")], "x", "y")


@pytest.mark.parametrize(("scale", "zero_point"), [(2.64 / 127, -14), (1 / 127, 0), (0.985 / 255, -128)])
def test_preprocessing_that_nothing_says_has_to_be_passed(tmp_path, scale, zero_point):
    file = file_of(tmp_path / "vendor.tflite", scale, zero_point)
    with pytest.raises(patchbench.UserError, match=r"nothing says .* int8 and holds .*: pass preproc") as caught:
        patchbench.twin(file)
    mend = re.search(r"patchbench\.Preproc\(.*?\)\)", str(caught.value))[0]
    assert patchbench.twin(file, preproc=eval(mend)).twin.preproc == patchbench.Preproc("nhwc", 127.5, (1, 1, 1))


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, -128), (1.0, -128), (1 / 127.5, -1), (1 / 128, -1)])
def test_an_input_that_can_only_hold_pixels_needs_none(tmp_path, scale, zero_point):
    file = file_of(tmp_path / "vendor.tflite", scale, zero_point)
    pixels = np.arange(0, 240, 5, np.uint8).reshape(1, 4, 4, 3)
    integers = patchbench.replay(file, pixels, "litert", timed_runs=0).integers
    assert (patchbench.twin(file).integers(shares(pixels)).numpy() == integers).all()


def test_a_description_beside_the_file_counts_and_may_not_be_contradicted(tmp_path):
    file, halved = file_of(tmp_path / "own.tflite", 0.02, -14), patchbench.Preproc("nhwc", divisor=510.0)
    described = tiny.artifact(file)
    replace(described, preproc=halved, input_size=(4, 4)).save(file.with_suffix(".json"))
    assert patchbench.twin(file).twin.preproc == halved
    with pytest.raises(patchbench.UserError, match="leave preproc out"):
        patchbench.twin(file, preproc=patchbench.Preproc())


def test_files_that_have_no_twin_are_one_line(tmp_path):
    mistakes = {
        "no such file": (tmp_path / "absent.tflite",),
        r"ends in \.onnx, \.tflite or \.pte": (__file__,),
        "no kernels named 'neon'; expected xnnpack, builtin, reference": (FILES[0], "neon"),
        "no kernels named 'xnnpack'; expected onnxruntime": (FILES[1], "xnnpack"),
        "compute in float": (tiny.onnx_file(tmp_path / "float.onnx"),),
    }
    for words, given in mistakes.items():
        with pytest.raises(patchbench.UserError, match=words) as caught:
            patchbench.twin(*given)
        assert "\n" not in str(caught.value)
