"""What twins share: fixed point, gradients, surrogates of a suite, and what is said of files that have none."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small_networks as small
from helpers.command import patchbench
from helpers.onnx_networks import Network as OnnxNetwork
from helpers.plans import keys, plan
from helpers.suites import QUICK
from helpers.suites import write as write_suite
from helpers.tflite_networks import Op
from helpers.twin_networks import PIXELS, SIZE, Network, _dense, _sum
from PIL import Image

from backends.device.artifact import Artifact, Preproc
from backends.device.errors import UserError
from exporters.files import describe
from exporters.files.tflite import delegated
from exporters.files.tflite_cut import cut
from harness.run.arithmetic import compare_with_runtime
from patches.patch import Patch
from patches.surrogates import build
from patches.twins import twin
from patches.twins.fixed_point import SMALL, Factor, factor, multiply, multiply_small
from patches.twins.straight_through import rounded


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def round_half_up(x: Fraction) -> int:
    return (x + Fraction(1, 2)).__floor__()


def round_half_away(x: Fraction) -> int:
    return round_half_up(x) if x >= 0 else -round_half_up(-x)


def test_fixed_point_is_two_roundings_of_exact_fractions() -> None:
    random = np.random.default_rng(0)
    reals = np.exp2(random.uniform(-18, 3, 300)) * random.uniform(1, 2, 300)
    numbers = random.integers(-(2**23), 2**23, (40, 300))
    numbers[:4] = random.integers(-8, 8, (4, 300))
    numbers[:, :20] = numbers[:, :20] // 2**12 * 2**12  # ties
    reals[:20] = np.exp2(-random.integers(1, 10, 20))
    by = factor(reals)
    for away, last in ((0, round_half_up), (1, round_half_away)):
        got = multiply(torch.from_numpy(numbers), by, torch.full((1,), away)).numpy()
        assert np.array_equal(got, multiply(torch.from_numpy(numbers), by).numpy()) == (away == 0)
        for column, (multiplier, shift) in enumerate(zip(by.multiplier.tolist(), by.shift.tolist(), strict=True)):
            assert abs(Fraction(multiplier, 2**31) * Fraction(2) ** shift / Fraction(reals[column]) - 1) < 2**-30
            left, right = max(shift, 0), max(-shift, 0)
            for row, number in enumerate(numbers[:, column].tolist()):
                high = round_half_up(Fraction(number * 2**left * multiplier, 2**31))
                assert got[row, column] == last(Fraction(high, 2**right))


def test_small_numbers_are_multiplied_in_float64_to_the_same_integers() -> None:
    random = torch.Generator().manual_seed(0)
    numbers = torch.randint(1 - SMALL, SMALL, (4000, 64), generator=random)
    numbers[:2000] >>= torch.randint(0, 22, (2000, 64), generator=random)
    shift = -torch.randint(0, 32, (64,), generator=random)
    mixed = torch.randint(0, 2, (64,), generator=random)
    ties = torch.full((64,), 2**30)
    for multiplier in (torch.randint(2**30, 2**31, (64,), generator=random), ties):
        by = Factor(multiplier, shift)
        for away in (None, mixed, torch.ones_like(mixed), torch.ones(1, dtype=torch.int64)):
            expected = multiply(numbers, by, away)
            for dtype in (torch.float32, torch.float64):
                given = numbers.to(dtype)
                assert torch.equal(multiply_small(given, by, away).to(torch.int64), expected)
                assert torch.equal(given, numbers.to(dtype))


def test_the_gradient_passes_roundings_and_stops_where_values_are_clipped() -> None:
    x = torch.tensor([-9.4, -0.6, 0.2, 1.5, 2.4, 2.6]).requires_grad_()
    y = rounded(torch.round, -1, 2, (3.0,), x)
    assert y.tolist() == [-1, -1, 0, 2, 2, 2]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [0, 3, 3, 3, 3, 0]


def test_the_gradient_of_a_broadcast_operand_is_summed() -> None:
    a, b = torch.ones(4, 3).requires_grad_(), torch.tensor([1.0, 2.0, 3.0]).requires_grad_()
    y = rounded(lambda a, b: a + b, -9, 9, (1.0, torch.tensor([1.0, 0.5, 2.0])), a, b)
    got = torch.autograd.grad(y.sum(), (a, b))
    assert got[0].tolist() == [[1.0] * 3] * 4
    assert got[1].tolist() == [4.0, 2.0, 8.0]


@pytest.fixture(scope="module", params=[".tflite", ".onnx"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions added up and a dense layer, in integers."""
    folder = tmp_path_factory.mktemp("file")
    if request.param == ".tflite":
        net = Network("int8", 3)
        return net.write(folder, _dense(net))
    onnx_net = OnnxNetwork("int8", "int8", 3, SIZE)
    a, b = onnx_net.conv(), onnx_net.conv(k=1)
    return onnx_net.write(folder, onnx_net.conv(onnx_net.quantized(onnx_net.node("Add", a, b), 0.1), 20, 10))


def test_gradients_are_finite_and_reach_every_pixel(file: Path) -> None:
    x = as_tensor(PIXELS).requires_grad_()
    made = twin(file)
    loss = torch.nn.functional.cross_entropy(made(x), torch.zeros(len(x), dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(gradient.isfinite().all())
    assert float((gradient != 0).float().mean()) > 0.9
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_logits_are_the_integers_reals_with_the_first_classes_last(file: Path) -> None:
    plain, offset = twin(file), twin(file, class_offset=1)
    x = as_tensor(PIXELS[:3])
    reals = (plain.integers(x) - plain.quant.zero_point) * plain.quant.scale
    assert torch.allclose(plain(x), reals.to(torch.float32), rtol=1e-6)
    assert torch.equal(offset(x), plain(x).roll(-1, 1))
    assert torch.equal(offset.integers(x), plain.integers(x))


def test_following_the_gradient_lowers_the_loss_on_the_runtime(file: Path) -> None:
    """Sign steps of one level of 255, as the runtime itself sees them."""
    made, wanted = twin(file), 2
    labels = torch.full((len(PIXELS),), wanted)

    def on_the_runtime(pixels: np.ndarray) -> float:
        from backends.device.runtimes import engine, prepare, real

        runtime = engine("litert" if file.suffix == ".tflite" else "onnxruntime")()
        runtime.load(file, {}, 1)
        raw = runtime.run(prepare(runtime.input, made.preproc(pixels), file))
        logits = torch.from_numpy(real(runtime.output, raw))
        return float(torch.nn.functional.cross_entropy(logits.reshape(len(pixels), -1), labels))

    pixels = PIXELS.copy()
    losses = [on_the_runtime(pixels)]
    for _ in range(6):
        for _ in range(4):
            x = as_tensor(pixels).requires_grad_()
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(made(x), labels), x)
            down = -gradient.sign().permute(0, 2, 3, 1).numpy().astype(int)
            pixels = np.clip(pixels + down, 0, 255).astype(np.uint8)
        losses.append(on_the_runtime(pixels))
    assert losses[-1] < 0.5 * losses[0]
    assert all(after < before for before, after in pairwise(losses))


def test_files_without_a_twin_are_said(tmp_path: Path) -> None:
    net = Network("int8", 0)
    x = net.conv()
    net.ops.append(Op("MAXIMUM", (x, x), net.like(x, 1, SIZE, SIZE, 20)))
    file = net.write(tmp_path, net.ops[-1].output)
    with pytest.raises(UserError, match=r"net\.tflite: operator MAXIMUM \(number 1\) has no twin"):
        twin(file)
    whole = file.read_bytes()
    for n in (3, 40, len(whole) // 2, len(whole) - 900):
        file.write_bytes(whole[:n])
        with pytest.raises(UserError, match=r"net\.tflite"):
            twin(file)
    with pytest.raises(UserError, match="no kernels named 'fast'; expected xnnpack, builtin, ref"):
        twin(file, "fast")
    with pytest.raises(UserError, match="a file that ends in"):
        twin(tmp_path / "net.pt")


def test_a_file_that_computes_in_float_has_no_twin(tmp_path: Path) -> None:
    net = OnnxNetwork("int8", "int8", 0, SIZE)
    file = net.write(tmp_path, net.node("Sigmoid", net.conv()))
    with pytest.raises(UserError, match="expected integers, dequantized at the end"):
        twin(file)
    net = OnnxNetwork("int8", "int8", 0, SIZE)
    x = net.conv()
    pooled = net.node("AveragePool", x, kernel_shape=[3, 3], strides=[4, 4], ceil_mode=1)
    file = net.write(tmp_path, net.quantized(pooled, net.scales[x]))
    with pytest.raises(UserError, match=r"QLinearAveragePool \(number \d\) with channels last, rounded up"):
        twin(file)


def test_pixels_are_prepared_as_the_device_prepares_them(tmp_path: Path) -> None:
    net = Network("int8", 1)
    file = net.write(tmp_path, net.conv())
    preproc = Preproc("nhwc", 200.0, (0.1, 0.2, 0.05), (0.9, 1.2, 1.1), "bgr")
    assert compare_with_runtime(file, "xnnpack", preproc, PIXELS)[1].equal == 1
    assert compare_with_runtime(file, "xnnpack", Preproc("nhwc"), PIXELS)[1].equal == 1
    given = twin(file, preproc=preproc).integers(as_tensor(PIXELS))
    assert not torch.equal(given, twin(file).integers(as_tensor(PIXELS)))


def test_what_xnnpack_leaves_alone_is_known(tmp_path: Path) -> None:
    net = Network("int8", 0)
    x = net.conv(channels=4)
    spec = net.tensors[x]
    pooled = net.activation((1, 3, 3, 4), spec.scale[0], spec.zero_point[0])
    window = {"strideH": 3, "strideW": 3, "filterHeight": 3, "filterWidth": 3, "padding": 1}
    net.add("AVERAGE_POOL_2D", (x,), pooled, "Pool2D", **window)
    file = net.write(tmp_path, net.conv(pooled, side=3))
    assert [o.name for o in describe(file).operators] == ["CONV_2D", "AVERAGE_POOL_2D", "CONV_2D"]
    assert delegated(file) == {0, 2}


def test_a_file_cut_short_gives_what_was_inside(tmp_path: Path) -> None:
    net = Network("int8", 2)
    file = net.write(tmp_path, _sum(net))
    inner = net.ops[0].output
    cut(file, inner, tmp_path / "cut.tflite")
    assert [o.name for o in describe(tmp_path / "cut.tflite").operators] == ["CONV_2D"]
    assert compare_with_runtime(tmp_path / "cut.tflite", "builtin", None, PIXELS)[1].equal == 1
    with pytest.raises(UserError, match="has no tensor named 'nothing'"):
        cut(file, "nothing", tmp_path / "none.tflite")


def test_a_suite_names_a_twin_by_its_artifact(tmp_path: Path) -> None:
    on_float = plan(tmp_path)
    wanted = '["float", "twin:resnet8-onnx-s8s8-minmax", "twin:resnet8-onnx-s8s8-minmax:onnxruntime"]'
    text = QUICK.replace('name = "gap"', f'name = "gap"\nsurrogate = {wanted}')
    made = plan(tmp_path, text)
    names = {p.name: p for p in made.patches if p.attack == "gap"}
    assert set(names) == {
        "gap-float-resnet8-c3-s0-8px-steps=3",
        "gap-twin-resnet8-onnx-s8s8-minmax-c3-s0-8px-steps=3",
        "gap-twin-onnxruntime-resnet8-onnx-s8s8-minmax-c3-s0-8px-steps=3",
    }
    assert keys(on_float, "patches") < keys(made, "patches")
    other = plan(tmp_path, text.replace("calibration = 8", "calibration = 9"))
    twin_name = "gap-twin-resnet8-onnx-s8s8-minmax-c3-s0-8px-steps=3"
    assert names[twin_name].surrogate.artifact in made.artifacts
    assert twin_name in {p.name for p in other.patches}
    assert names[twin_name].key not in keys(other, "patches")


@pytest.mark.parametrize("name", ["twin", "twin:resnet8", "twin:resnet8-torch", "twin:resnet8-onnx-fp32"])
def test_a_twin_of_no_artifact_is_said(tmp_path: Path, name: str) -> None:
    text = QUICK.replace('name = "gap"', f'name = "gap"\nsurrogate = "{name}"')
    with pytest.raises(UserError, match=r"no quantized artifact .* named .*; there is twin:resnet8-onnx-s8s8-minmax, "):
        plan(tmp_path, text)


@pytest.mark.slow
@pytest.mark.parametrize("format", small.FORMATS)
def test_our_own_files_and_their_surrogates(exported: Callable[..., Path], format: str) -> None:
    file = exported("resnet", format)
    surrogate = build("twin", file.with_suffix(".json"))
    artifact = Artifact.read(file.with_suffix(".json"))
    assert compare_with_runtime(file, None, artifact.preproc, small.PIXELS)[1].equal == 1
    logits = small.file_logits(file, small.PIXELS)
    assert np.allclose(surrogate(as_tensor(small.PIXELS)).numpy(), logits, atol=1e-5)


@pytest.mark.slow
def test_a_run_makes_patches_on_a_twin(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick / "out/quick/store", tmp_path / "out/quick/store")
    name = "twin:resnet8-onnx-s8s8-minmax"
    text = QUICK.replace('name = "gap"', f'name = "gap"\nsurrogate = "{name}"').replace(', "moving_average"]', "]")
    done = patchbench("run", write_suite(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = pd.read_csv(tmp_path / "out" / "quick" / "cells.csv", keep_default_na=False)
    assert set(cells["surrogate"][cells["attack"] == "gap"]) == {name}
    patch = Patch.read(next((tmp_path / "out" / "quick" / "patches").glob("gap*.npz")))
    assert patch.surrogate == name
    assert patch.checks["steps"] == 3


VENDOR = {"mlperf_tiny_resnet8_int8": 24, "mobilenet_v1_0.25_128_quant": 6, "tf2_mobilenet_v2_1.0_224_ptq": 1}


@pytest.mark.data
@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("name", VENDOR)
def test_vendors_files_have_twins(data_dir: Path, name: str, kernels: str) -> None:
    file, n = data_dir / "vendor" / f"{name}.tflite", VENDOR[name]
    size = describe(file).inputs[0].shape[1]
    if size == 32:
        with np.load(data_dir / "cifar10" / "cifar10.npz") as arrays:
            pixels = arrays["x_test"][:n]
    else:
        some = sorted((data_dir / "imagenet" / "images").glob("*.JPEG"))[7 :: 1000 // n][:n]
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((size, size))) for path in some])
    _, found = compare_with_runtime(file, kernels, None, pixels)
    assert (found.largest, found.equal) == (0, 1.0)
