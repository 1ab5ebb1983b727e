import json

import numpy as np
import pytest
import torch
from helpers import tiny
from scipy.ndimage import median_filter
from sklearn.datasets import load_sample_images

from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.checksums import write_sums
from backends.device.defences import defend
from backends.device.defences.patchblock import outliers
from backends.device.defences.patchcleanser import mask_set, masked
from backends.device.errors import UserError
from backends.hosts import Target, replay
from patches.differentiable_defences import StraightThrough, defended, differentiable_defence
from patches.problem import Problem

ORT = Target("ort", "onnxruntime")


@pytest.fixture(scope="module")
def photographs():
    """Real pictures in pieces, some whose sides are no multiples of a block: uint8 (n, h, w, 3) each."""
    china, flower = load_sample_images().images
    return [china[None, 100:356, 50:370], flower[None, 201:232, 300:317], np.stack([china[:33, :49], flower[:33, :49]])]


def levels(word, pixels):
    """What a stand-in gives, in levels of 0 to 255."""
    x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)
    return differentiable_defence(word)(x).permute(0, 2, 3, 1).numpy() * 255


@pytest.mark.parametrize("side", [3, 5, 9])
def test_a_median_is_scipys(side):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 17, 12, 3), np.uint8)
    before = pixels.copy()
    expected = median_filter(pixels, size=(1, side, side, 1), mode="nearest")
    np.testing.assert_array_equal(defend(f"median:{side}", pixels), expected)
    np.testing.assert_array_equal(levels(f"median:{side}", pixels).round(), expected)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 100])
def test_the_stand_in_of_a_jpeg_is_pillows(photographs, quality):
    word = f"jpeg:{quality}"
    for pixels in photographs:
        off = np.abs(levels(word, pixels) - defend(word, pixels))
        assert off.mean() < 1
        assert off.mean() < 0.6 * np.abs(pixels - defend(word, pixels).astype(float)).mean() + 0.05


def test_a_jpeg_says_more_of_a_picture_with_more_quality(photographs):
    kept = [np.abs(defend(f"jpeg:{q}", photographs[0]) - photographs[0].astype(float)).mean() for q in (5, 30, 75, 98)]
    assert kept == sorted(kept, reverse=True)
    grey = np.full((1, 16, 16, 3), 77, np.uint8)
    np.testing.assert_array_equal(defend("jpeg:30", grey), grey)


def test_a_gradient_through_a_jpeg_is_as_large_as_without():
    x = (torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4).requires_grad_()
    differentiable_defence("jpeg:75")(x).sum().backward()
    assert x.grad.sum() == pytest.approx(x.numel(), rel=1e-3)  # a level more everywhere is a level more there
    assert (x.grad != 0).float().mean() > 0.99


def test_a_gradient_through_a_median_reaches_the_pixel_that_it_is():
    x = torch.arange(9.0).flip(0).reshape(1, 1, 3, 3).repeat(1, 3, 1, 1) / 255
    x.requires_grad_()
    differentiable_defence("median:3")(x)[:, :, 1, 1].sum().backward()
    expected = torch.zeros(3, 3)
    expected[1, 1] = 1
    torch.testing.assert_close(x.grad[0, 0], expected)


def test_a_surrogate_behind_a_defence_sees_what_the_device_does(photographs):
    pixels = photographs[2]
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 33 * 49, 4)).eval()
    problem = Problem(defended("median:5", network), pixels, np.zeros(2, np.int64), 1, 8)
    with torch.no_grad():
        seen = problem.surrogate(problem.images(torch.arange(2))[0])
        clean = torch.from_numpy(defend("median:5", pixels).astype(np.float32) / 255).permute(0, 3, 1, 2)
        torch.testing.assert_close(seen, network(clean))


@pytest.mark.parametrize(
    "word", ["bit_depth:1", "bit_depth:3", "bit_depth:6", "lgs:6", "lgs:15", "patchblock:4", "patchblock:8"]
)
def test_the_stand_in_gives_the_devices_pixels(photographs, word):
    for pixels in photographs:
        assert np.abs(levels(word, pixels) - defend(word, pixels)).max() <= 1.001, "a float32 may round the other way"
        assert (levels(word, pixels).round() == defend(word, pixels)).mean() > 0.999


def test_a_gradient_through_gradient_smoothing_is_the_finite_difference():
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = (x * 255).round() / 255  # a noisy image: all of it is darkened
    smoothing = differentiable_defence("lgs:4").double()
    generator = torch.Generator().manual_seed(2)
    weights, direction = torch.randn((2, *x.shape), generator=generator, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((smoothing(leaf) * weights).sum(), leaf)
    more, less = ((unrounded_lgs(x + step * direction) * weights).sum() for step in (1e-6, -1e-6))
    assert float((grad * direction).sum()) == pytest.approx(float(more - less) / 2e-6, rel=1e-4)


def unrounded_lgs(x):
    """Equations of the paper where every block is darkened, in float64."""
    grey = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    down, right = torch.zeros_like(grey), torch.zeros_like(grey)
    down[:, :-1] = grey[:, :-1] - grey[:, 1:]
    right[:, :, :-1] = grey[:, :, :-1] - grey[:, :, 1:]
    size = torch.hypot(down, right)
    share = (size - size.min()) / (size.max() - size.min())
    return x * (1 - 2.3 * share).clamp(0, 1)[:, None]


def test_a_gradient_through_patchblock_is_that_of_the_means(photographs):
    pixels = photographs[0][:, :64, :64]
    generator = torch.Generator().manual_seed(4)
    weights, direction = torch.randn((2, 1, 3, 64, 64), generator=generator)
    x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2).requires_grad_()
    (grad,) = torch.autograd.grad((differentiable_defence("patchblock:8")(x) * weights).sum(), x)
    moved = direction.clone()
    for row, column in outliers(pixels[0], 8):
        chunk = direction[:, :, row : row + 8, column : column + 8]
        moved[:, :, row : row + 8, column : column + 8] = chunk.mean((2, 3), keepdim=True)
    assert 0.05 < (moved != direction).float().mean() < 0.95
    assert float((grad * direction).sum()) == pytest.approx(float((moved * weights).sum()), rel=1e-4)


def test_a_defence_without_a_stand_in_is_the_devices_own_code_and_the_identity_backwards(photographs):
    x = torch.from_numpy(photographs[2].astype(np.float32) / 255).permute(0, 3, 1, 2).requires_grad_()
    seen = StraightThrough("median:5")(x)
    np.testing.assert_array_equal(
        (seen * 255).detach().permute(0, 2, 3, 1).numpy().round(), defend("median:5", photographs[2])
    )
    seen.sum().backward()
    assert (x.grad == 1).all()


def test_patchcleansers_stand_in_is_the_mean_over_its_masks():
    """Of a linear network that sums the red of an image, over many draws."""
    pixels = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(3)).requires_grad_()
    surrogate = defended("patchcleanser:4", torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    masks = mask_set((20, 20), 4)
    image = (pixels[0].detach().permute(1, 2, 0) * 255).numpy()
    means = torch.tensor(masked(image, masks) / 255).mean(dim=(1, 2))
    expected = means.log_softmax(dim=1).mean(dim=0)
    seen = torch.stack([surrogate(pixels)[0] for _ in range(400)]).mean(dim=0)
    torch.testing.assert_close(seen, expected, atol=2e-3, rtol=0)
    seen[0].backward()
    assert (pixels.grad[0, 0] > 0).all(), "no mask hides a pixel from all draws"


@pytest.fixture
def bundle(tmp_path):
    """A stamp on each image: undefended, behind each defence; and what is then seen, pasted over all of each image."""
    file, stamps = tiny.onnx_file(tmp_path / "tiny.onnx"), tiny.stamps()
    pasted = tiny.pasted_slowly(tiny.pixels(), stamps)
    whole, corners = np.ones((1, tiny.SIZE, tiny.SIZE), bool), np.zeros((tiny.N, 2), np.int32)
    words = {"soft": "median:3", "coded": "jpeg:40"}
    cases = {"none": None, "plain": stamps} | dict.fromkeys(words, stamps)
    cases |= {f"{name} seen": Stamps(defend(word, pasted), whole, corners) for name, word in words.items()}
    cases = {name.replace(" ", "-"): case for name, case in cases.items()}
    return write_bundle(tmp_path / "bundle", tiny.artifact(file), file, tiny.pixels(), cases, words)


def test_a_defence_lies_between_pasting_and_the_network(tmp_path, bundle):
    heard = []
    outcome = replay(ORT, bundle.root, tmp_path / "out", on_event=heard.append)
    assert not outcome.errors
    logits = {name: np.load(file, allow_pickle=False)["logits"] for name, file in outcome.files.items()}
    for name in ("soft", "coded"):
        np.testing.assert_array_equal(logits[name], logits[f"{name}-seen"])
        assert (logits[name] != logits["plain"]).any()
    told = {event.case: event for event in heard if event.event == "case"}
    assert told["soft"].pixels_sha256 == told["plain"].pixels_sha256 == bundle.case("plain").sha256
    assert told["soft"].defended_sha256 == bundle.case("soft-seen").sha256
    assert not told["plain"].defended_sha256


def test_a_bundle_without_a_defence_says_nothing_of_one(bundle):
    described = {case["name"]: set(case) for case in json.loads((bundle.root / "bundle.json").read_text())["cases"]}
    assert described["plain"] == {"name", "sha256"}
    assert described["soft"] == {"name", "sha256", "defence", "defended_sha256"}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("defended_sha256", "0" * 64, "case soft: median:3 gives pixels of sha256 "), ("defence", "blur:2", "'blur:2'")],
)
def test_what_a_defence_makes_otherwise_is_refused(tmp_path, bundle, field, value, says):
    file = bundle.root / "bundle.json"
    described = json.loads(file.read_text())
    next(case for case in described["cases"] if case["name"] == "soft")[field] = value
    file.write_text(json.dumps(described))
    write_sums(bundle.root)
    if field == "defence":
        with pytest.raises(UserError, match=says):
            Bundle.read(bundle.root)
        return
    outcome = replay(ORT, bundle.root, tmp_path / "out")
    assert list(outcome.errors) == ["soft"]
    assert says in outcome.errors["soft"]


def test_a_latency_with_a_defence_has_the_defence_in_it(tmp_path, bundle):
    limits = {"warmup": 5, "runs": 200, "seconds": 0}
    took = []
    for more in ({}, {"defence": "median:9"}):
        outcome = replay(ORT, bundle.root, tmp_path / "out", cases=[], latency=limits | more)
        took.append(outcome.latency.p50_ms)
    assert took[1] > took[0]
